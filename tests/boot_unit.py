"""The unit under a real systemd, in seconds: ``make unit``, as root, with systemd-nspawn (Debian: systemd-container).

A computer that consists of this one's ``/usr`` and nothing else boots in a container with a network of its own. On it the
service is installed by ``keyturn service install``, started by systemd in its whole sandbox (the filter of system calls
too, which ``test_install.py`` cannot show), asked over ports 443 and 80, given a certificate of its own by a drop-in, given
its issuing keys' passphrase as an encrypted credential, put onto a token (with SoftHSM, if that is here), and stopped. An
activation host is installed beside it, certified by it, and leases in its own sandbox.
Everything goes with the container. Needs the system's Python to be of the version that made ``.venv``.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = Path(sysconfig.get_path("purelib"))
PATIENCE = 180

STORY = """\
set -eux
export PATH=/opt/keyturn/bin:/usr/sbin:/usr/bin HOME=/root
printf '127.0.0.1 localhost\\n::1 localhost\\n' > /etc/hosts
keyturn service install
test "$(keyturn service install --json | grep -c '"changed": false')" = 1
keyturn service init --publisher Acme --url https://localhost --probe-url http://localhost/probe
keyturn service product create paintbox --threshold 1
keyturn service product export paintbox -o /root/paintbox.ktproduct
keyturn service key mint --product paintbox -o /root/key.txt
started() {  # The unit is started when its program runs, and ready when that says so.
    systemctl start ${2:-keyturn-service}
    journalctl --follow --lines all --output cat --since "$1" -u ${2:-keyturn-service} | grep -m 1 '"event": "ready"'
}
started -1min
process=$(systemctl show --property MainPID --value keyturn-service)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$process/status
test "$(stat --format %a /proc/$process/root/var/lib/keyturn-service/root)" = 0
test "$(stat --format %U:%a /var/lib/keyturn-service/root)" = root:700
grep ' / .* ro,' /proc/$process/mounts
grep ' /var/lib/keyturn-service .* rw,' /proc/$process/mounts
keyturn --home /root/c activate - --product-file /root/paintbox.ktproduct --yes --allow-ephemeral < /root/key.txt
keyturn --home /root/c status --check licensed
# The host in its sandbox: certified by the service; what root writes there stays the account's.
keyturn service org create globex
for channel in host client; do
    keyturn service key mint --product paintbox --channel $channel --org globex -o /root/$channel.txt
done
keyturn host install
test "$(keyturn host install --json | grep -c '"changed": false')" = 1
keyturn host init /root/paintbox.ktproduct
keyturn host activate - < /root/host.txt
keyturn host config set name localhost
test -z "$(find /var/lib/keyturn-host ! -user keyturn)"
started -1min keyturn-host
host=$(systemctl show --property MainPID --value keyturn-host)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$host/status
keyturn --home /root/h activate - --product-file /root/paintbox.ktproduct --yes --host localhost < /root/client.txt
keyturn --home /root/h status --check licensed
keyturn host doctor
keyturn host backup -o /root/host.ktbackup
keyturn host verify
keyturn host verify /root/host.ktbackup
test -z "$(find /var/lib/keyturn-host ! -user keyturn)"
systemctl stop keyturn-host
test "$(systemctl show --property Result --value keyturn-host)" = success
systemd-analyze security keyturn-host --no-pager | tail -1
# The agent in its sandbox: the system's store, its socket, a user's status, a look that sees what a shell sees, its end.
keyturn service key mint --product paintbox -o /root/agent.txt
keyturn activate - --product-file /root/paintbox.ktproduct --yes --allow-ephemeral < /root/agent.txt
keyturn agent install
test "$(keyturn agent install --json | grep -c '"changed": false')" = 1
since=$(date '+%F %T.%6N')
systemctl start keyturn-agent
journalctl --follow --lines all --output cat --since "$since" -u keyturn-agent | grep -m 1 'The agent keeps /var/lib/keyturn'
agent=$(systemctl show --property MainPID --value keyturn-agent)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$agent/status
test "$(stat --format %U:%a /run/keyturn/anchors.json)" = root:644
test "$(stat --format %a /run/keyturn/agent.sock)" = 666
setpriv --reuid 23452 --regid 23452 --clear-groups env HOME=/nowhere keyturn status --json | grep '"possession": "proven"'
systemctl reload keyturn-agent
keyturn status --check licensed
systemctl stop keyturn-agent
test "$(systemctl show --property Result --value keyturn-agent)" = success
test ! -e /run/keyturn/agent.sock
test -e /run/keyturn/anchors.json
keyturn events --json > /root/events
test "$(grep -c hardware_changed /root/events)" = 0
grep -q agent_stopped /root/events
systemd-analyze security keyturn-agent --no-pager | tail -1
keyturn service config set rate_key 60/6000
test "$(stat --format %U:%a /var/lib/keyturn-service/service.toml)" = keyturn:600
systemctl stop keyturn-service
systemctl show --property Result --property ExecMainStatus keyturn-service
mkdir -m 700 /etc/own
mv /var/lib/keyturn-service/tls/cert.pem /var/lib/keyturn-service/tls/key.pem /etc/own
chown -R root:root /etc/own
mkdir /etc/systemd/system/keyturn-service.service.d
cat > /etc/systemd/system/keyturn-service.service.d/own.conf <<'END'
[Service]
LoadCredential=cert.pem:/etc/own/cert.pem
LoadCredential=key.pem:/etc/own/key.pem
ExecStart=
ExecStart=/opt/keyturn/bin/keyturn service run --home /var/lib/keyturn-service --listen [::]:443 --probe-listen [::]:80 \
--tls-cert ${CREDENTIALS_DIRECTORY}/cert.pem --tls-key ${CREDENTIALS_DIRECTORY}/key.pem --json
END
systemctl daemon-reload
since=$(date '+%F %T.%6N')
started "$since"
keyturn --home /root/c deactivate --yes
systemctl stop keyturn-service
test "$(systemctl show --property Result --value keyturn-service)" = success
# The issuing keys encrypted, their passphrase an encrypted credential; then on a token, with a PIN that is wrong first.
drop=/etc/systemd/system/keyturn-service.service.d
sealed() {  # A secret that only this computer's systemd opens.
    printf %s "$2" | systemd-creds encrypt --with-key=host --name="$1" - "/etc/own/$1"
    printf '[Service]\nLoadCredentialEncrypted=%s:/etc/own/%s\n' "$1" "$1" > "$drop/$1.conf"
    systemctl daemon-reload
}
as_service() { setpriv --reuid keyturn --regid keyturn --init-groups env KEYTURN_HOME=/var/lib/keyturn-service "$@"; }
printf 'correct horse battery staple' | install -m 600 -o keyturn /dev/stdin /run/passphrase
as_service KEYTURN_SERVICE_PASSPHRASE_FILE=/run/passphrase keyturn service issuing-key store --signer encrypted-file
sealed keyturn-passphrase 'correct horse battery staple'
since=$(date '+%F %T.%6N')
started "$since"
keyturn --home /root/d activate - --product-file /root/paintbox.ktproduct --yes --allow-ephemeral < /root/key.txt
systemctl stop keyturn-service
if test -e /usr/lib/softhsm/libsofthsm2.so; then
    install -d -o keyturn -m 700 /var/lib/softhsm /var/lib/softhsm/tokens
    mkdir -p /etc/softhsm
    printf 'directories.tokendir = /var/lib/softhsm/tokens\n' > /etc/softhsm/softhsm2.conf
    as_service softhsm2-util --init-token --free --label keyturn --pin 1234 --so-pin 12345678
    printf 1234 | install -m 600 -o keyturn /dev/stdin /run/pin
    keyturn service config set pkcs11_module /usr/lib/softhsm/libsofthsm2.so
    as_service KEYTURN_SERVICE_PASSPHRASE_FILE=/run/passphrase KEYTURN_SERVICE_PIN_FILE=/run/pin \
        keyturn service issuing-key store --signer pkcs11 --yes
    printf '[Service]\nReadWritePaths=/var/lib/softhsm\n' > $drop/token.conf
    sealed keyturn-pin 9999
    systemctl start keyturn-service
    (set +x; until systemctl is-failed --quiet keyturn-service; do sleep 0.1; done)  # It ends by itself.
    test "$(systemctl show --property ExecMainStatus --value keyturn-service)" = 5
    test "$(systemctl show --property NRestarts --value keyturn-service)" = 0
    sealed keyturn-pin 1234
    since=$(date '+%F %T.%6N')
    started "$since"
    keyturn --home /root/d deactivate --yes
    keyturn --home /root/e activate - --product-file /root/paintbox.ktproduct --yes --allow-ephemeral < /root/key.txt
    systemctl stop keyturn-service
    test "$(systemctl show --property Result --value keyturn-service)" = success
fi
systemd-analyze security keyturn-service --no-pager | tail -1
echo ENDED WELL
"""
UNIT = """\
[Service]
Type=oneshot
ExecStart=/bin/sh /opt/story/story.sh
ExecStopPost=/bin/systemctl poweroff --force
StandardOutput=file:/opt/story/log
StandardError=inherit
"""


def program(folder: Path) -> Path:
    """An environment as a person makes it below /opt, with this tree's source and packages on its path."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "keyturn.pth").write_text("/opt/source\n/opt/packages\n")
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(f"/usr/bin/{version}")
    script = folder / "bin" / "keyturn"
    script.write_text("#!/opt/keyturn/bin/python\nimport sys\nfrom keyturn.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return folder


def boot(folder: Path) -> str:
    """Boot, tell the story, power off; the result is what was said on the way."""
    folder.chmod(0o755)
    story = folder / "story"
    story.mkdir()
    (story / "story.sh").write_text(STORY)
    (folder / "story.service").write_text(UNIT)
    binds = {
        program(folder / "keyturn"): "/opt/keyturn", SOURCE: "/opt/source", PACKAGES: "/opt/packages",
        folder / "story.service": "/etc/systemd/system/story.service",
    }  # fmt: skip
    done = subprocess.run(
        [
            "timeout", "--kill-after=10", str(PATIENCE), "systemd-nspawn", "--directory=/", "--volatile=yes",
            "--boot", "--private-network", "--register=no", "--keep-unit", f"--bind={story}:/opt/story",
            *(f"--bind-ro={source}:{place}" for source, place in binds.items()),
            # Nobody to ask, and no network to wait for.
            "systemd.firstboot=off", "systemd.mask=systemd-networkd-wait-online.service", "systemd.unit=story.service",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = story / "log"
    return log.read_text() if log.exists() else done.stdout + done.stderr


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        said = boot(Path(folder))
    print(said)
    return 0 if said.rstrip().endswith("ENDED WELL") else 1


if __name__ == "__main__":
    sys.exit(main())
