#!/bin/bash
# The inside of a machine: makes the root a usable system, runs pytest with the arguments that came with the checkout,
# hands over the results and switches the machine off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LOGNAME=root LANG=C.UTF-8
readonly RESULTS=/run/results

mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /run/netns "$RESULTS"
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
ip link set lo up
modprobe tun # to have its device; the kernel asks for all others when they are used

cd /root/udplane || exit
mkdir -p build/tools/forky/usr/lib
ln -s /usr/libexec/cni build/tools/forky/usr/lib/cni
mapfile -d '' -t arguments <build/pytest-arguments
echo "kernel $(uname -r), up for $(cut -d' ' -f1 /proc/uptime) s; pytest ${arguments[*]}"
python3 -m pytest -p no:cacheprovider --color=no --junit-xml="$RESULTS/report.xml" "${arguments[@]}" </dev/null
echo "pytest: exit status $?"
tar -c -f /dev/vdd -C "$RESULTS" .
sync
echo o >/proc/sysrq-trigger
sleep 10
