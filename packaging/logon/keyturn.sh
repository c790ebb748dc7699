# At a logon: which product on this computer needs something, until when, and what to do. Silent when all is licensed.
# Read by /etc/profile, whatever the shell is, so this is plain POSIX; `keyturn` ends by itself within seconds.
case $- in
*i*)
    # Where the PAM line says it to every logon already, it is not said twice.
    if [ -x /usr/bin/keyturn ] && ! grep -qs '^[^#]*keyturn remind' /etc/pam.d/common-session; then
        /usr/bin/keyturn remind --logon 2>/dev/null || :
    fi
    ;;
esac
