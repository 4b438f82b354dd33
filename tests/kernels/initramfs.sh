#!/bin/busybox sh
# shellcheck shell=dash
# The first process of a machine: finds the disks, then becomes guest.sh of the checkout on them.
#
#   vda  the root, ext4        vdb  the kernel's modules, ext4
#   vdc  the checkout, a tar   vdd  for a tar of results
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t devtmpfs devtmpfs /dev
$bb mount -t sysfs sysfs /sys
for module in $($bb cat /modules/order); do
    $bb insmod "/modules/$module" || $bb echo "cannot load $module"
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -e /dev/vdd ] && break
    $bb sleep 0.3
done
$bb mount -t ext4 /dev/vda /mnt && $bb mount -t ext4 -o ro /dev/vdb /mnt/usr/lib/modules
$bb mount -t tmpfs tmpfs /mnt/root && $bb mkdir /mnt/root/udplane && $bb tar -x -f /dev/vdc -C /mnt/root/udplane
for directory in proc dev sys; do
    $bb mount --move "/$directory" "/mnt/$directory"
done
exec $bb switch_root /mnt /bin/bash /root/udplane/tests/kernels/guest.sh
