#!/usr/bin/env bash
# boot.sh FOLDER: starts this machine's systemd as the first process of a machine of its own, in namespaces: no network but
# loopback, /usr as here with the package in FOLDER/package laid over it, and everything else empty and in memory. It runs
# FOLDER/trial.sh, whose output goes to FOLDER/out, and ends with it. Needs root.
set -euo pipefail
folder=$1

if [ "${2:-}" != inside ]; then
  hierarchy=$(findmnt -n -t cgroup2 -o TARGET | head -1)
  group=$hierarchy/claviger-trial-$$
  mkdir "$group"
  trap 'find "$group" -depth -type d -exec rmdir {} +' EXIT
  sh -c 'echo $$ > "$1/cgroup.procs"; exec unshare --mount --pid --fork --kill-child --net --cgroup --uts --ipc --propagation private \
    bash "$2" "$3" inside' - "$group" "$0" "$folder"
  exit
fi

root=$folder/root
mkdir -p "$root" "$folder/memory"
mount -t tmpfs tmpfs "$root"
mount -t tmpfs tmpfs "$folder/memory"
mkdir "$folder/memory/upper" "$folder/memory/work"
cp -a "$folder/package/usr/." "$folder/memory/upper/"
cd "$root"
mkdir -p usr etc/systemd/system var/lib var/log run tmp proc sys dev old root out
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$folder/memory/upper,workdir=$folder/memory/work" usr
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
cp -a "$folder/package/etc/." etc/
cp /etc/nsswitch.conf /etc/ld.so.cache etc/
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n' > etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > etc/group
echo 0123456789abcdef0123456789abcdef > etc/machine-id
echo '127.0.0.1 localhost' > etc/hosts
cp "$folder/trial.sh" etc/trial.sh
cat > etc/systemd/system/trial.target <<'UNIT'
[Unit]
Wants=trial.service
UNIT
cat > etc/systemd/system/trial.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/bash -x /etc/trial.sh
StandardOutput=file:/out/said
StandardError=file:/out/log
ExecStopPost=/bin/systemctl --no-block exit
UNIT
mkdir -p "$folder/out"
mount --bind "$folder/out" out
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty; do
  touch "dev/$name"
  mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm dev/mqueue dev/hugepages
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
pivot_root . old
cd /
umount -l /old
# As it is on a machine: what a service is given shows in its own file system, too.
mount --make-rshared /
export container=trial HOME=/root
unset NOTIFY_SOCKET
exec /lib/systemd/systemd --system --unit=trial.target --log-target=journal --show-status=no
