# What an operator does on a new machine with the package, as docs/OPERATING.md says it. Each line that is said is NAME=VALUE.
set -u
state() { systemctl show -P ActiveState "$1"; }
status() { systemctl show -P StatusText "$1"; }
cd /root

systemd-sysusers claviger.conf
systemd-tmpfiles --create claviger.conf
claviger init made --kek records >&2
cp made/certs/*.crt made/certs/*.key /etc/claviger/certs/
cp made/secrets/access-log.key /etc/claviger/secrets/
cp made/secrets/client.key /etc/claviger/secrets/clients/first-application.key
(umask 077; echo the-storage-servers-secret > /etc/claviger/secrets/storage.key)
sed -i 's#https://custodian.example.org:8200#https://localhost:8200#; s#https://s3.virginia.example.org#https://localhost:9#' \
  /etc/claviger/proxy.toml /etc/claviger/witness.toml
CREDENTIALS_DIRECTORY=/etc/claviger/certs claviger custodian init --config /etc/claviger/custodian.toml --shares-to shares >&2
chown -R claviger-custodian: /var/lib/claviger-custodian

export VAULT_ADDR=https://localhost:8200 VAULT_CACERT=made/certs/ca.crt
export VAULT_CLIENT_CERT=made/certs/officer-alice.crt VAULT_CLIENT_KEY=made/certs/officer-alice.key
unseal() { for share in shares/seal-1-share-1 shares/seal-1-share-2; do claviger unseal < "$share" >&2; done; }

systemctl start claviger-custodian
echo "custodian=$(state claviger-custodian)/$(status claviger-custodian)"
systemctl start claviger-proxy
echo "proxy while sealed=$(state claviger-proxy)"
unseal
claviger key create records >&2
for _ in $(seq 100); do [ "$(state claviger-proxy)" = active ] && break; sleep 0.1; done
echo "proxy=$(state claviger-proxy)/$(status claviger-proxy)"
echo "unsigned=$(curl -sS --cacert made/certs/ca.crt -o /dev/null -w '%{http_code}' https://localhost:8443/records/1)"

pid=$(systemctl show -P MainPID claviger-proxy)
of() { sed -n "s/^$1:\s*//p" "/proc/$pid/status"; }
echo "privileges=$(of CapPrm)/$(of CapBnd)/$(of NoNewPrivs)/$(of Seccomp)"
echo "user=$(stat -c %U "/proc/$pid")"
echo "core=$(sed -n 's#^Max core file size *\([^ ]*\) *\([^ ]*\).*#\1/\2#p' "/proc/$pid/limits")"
echo "credentials=$(stat -c '%a %U' /run/credentials/claviger-proxy.service/* | sort -u)"
nsenter -t "$pid" -m -- touch /etc/written 2> /dev/null && echo "written=yes" || echo "written=no"

systemctl start claviger-maintain
echo "maintain=$(state claviger-maintain)"
cp /var/lib/claviger-custodian/audit.vkey /etc/claviger/audit.vkey
chmod a+r /etc/claviger/audit.vkey
(umask 077; claviger audit witness-key --name witness.example.org/claviger --out /etc/claviger/secrets/witness.key >&2)
claviger certificate spiffe://claviger.internal/region/us/witness/w1 --ca-file made/certs/clients-ca.crt \
  --ca-key-file made/certs/clients-ca.key --out /etc/claviger/certs/witness-client >&2
sed -i 's/^push = true/push = false/' /etc/claviger/witness.toml
systemctl start claviger-witness
for _ in $(seq 100); do [ -e /var/lib/claviger-witness/checkpoint ] && break; sleep 0.1; done
echo "witness=$(state claviger-witness)/$(grep -c witness.example.org /var/lib/claviger-witness/checkpoint)"

systemctl restart claviger-proxy
echo "restarted=$(state claviger-proxy)"
systemctl stop claviger-proxy claviger-custodian
echo "stopped=$(systemctl show -P Result claviger-proxy)/$(systemctl show -P Result claviger-custodian)"
echo "region = 7" >> /etc/claviger/proxy.toml
systemctl start claviger-proxy
echo "wrong=$(state claviger-proxy)/$(systemctl show -P ExecMainStatus claviger-proxy)"
journalctl --no-pager --output cat --lines 200 >&2
