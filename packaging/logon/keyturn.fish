# At a logon with fish: which product on this computer needs something, until when, and what to do.
if status is-login; and status is-interactive; and test -x /usr/bin/keyturn
    if not grep -qs '^[^#]*keyturn remind' /etc/pam.d/common-session
        /usr/bin/keyturn remind --logon 2>/dev/null; or true
    end
end
