#!/bin/busybox sh
# The first program of a virtual machine: looks at it with penstock, applies what is wanted, and puts it back. What the test asserts is in lines that
# begin with "= "; all else is for whoever reads why it failed.
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc /var/lib/penstock /root
/bin/busybox --install -s /bin
export PATH=/bin RUST_BACKTRACE=1
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
echo "= up"
while read -r module; do
  insmod "/modules/$module" || echo "$module: not loaded"
done </modules/order
ip link set lo up
ip link set eth0 up
link() { # a driver that makes its rings anew takes the link down for a moment
  tries=0
  until [ "$(cat /sys/class/net/eth0/operstate)" = up ] || [ $tries -gt 200 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
}
tune() { # arguments: what it says, and how it ends
  penstock tune "$@"
  echo "= $1 ended with $?"
}
# Every value that can be set, all that drivers say, and all files that last. What changes by itself, while nobody changes anything, is left out.
everything() {
  link
  find /proc/sys /proc/irq /sys/block/nvme0n1/ /sys/devices/system /sys/devices/virtual/workqueue /sys/kernel/mm /sys/module/pcie_aspm \
    /sys/class/net/eth0/ -type f -perm -600 2>/dev/null | grep -v -e ns_last_pid -e random/ -e /power/ -e uevent -e byte_queue_limits/limit | sort | xargs grep -s ''
  penstock tune describe | sed -n '/^\[nic/,/^$/p'
  find /etc /var | sort
}
# Values that are not as wanted, where a kernel begins with good ones.
echo 1 >/proc/sys/vm/zone_reclaim_mode
echo always >/sys/kernel/mm/transparent_hugepage/defrag
echo 32768 >/proc/sys/net/core/rps_sock_flow_entries
echo f >/sys/class/net/eth0/queues/rx-0/rps_cpus
for number in $(awk '$NF ~ /^eth0/ { sub(":", "", $1); print $1 }' /proc/interrupts); do
  echo 0 >/proc/irq/$number/smp_affinity_list
done
echo 128 >/sys/block/nvme0n1/queue/max_sectors_kb
echo '4096 16384 65536' >/proc/sys/net/ipv4/tcp_wmem
echo 131072 >/proc/sys/net/core/rmem_max
echo 0 >/proc/sys/net/ipv4/tcp_tw_reuse
# And what the kernel moves when others are switched: another reserve than it would choose, a scheduler with settings of its own.
echo mq-deadline >/sys/block/nvme0n1/queue/scheduler
echo 77 >/sys/block/nvme0n1/queue/nr_requests
echo 444 >/sys/block/nvme0n1/queue/iosched/read_expire
echo 20 >/sys/block/nvme0n1/queue/iosched/async_depth
echo 9999 >/proc/sys/vm/min_free_kbytes
echo 60 >/sys/block/nvme0n1/queue/read_ahead_kb
link
tune map
everything >/tmp/before
tune apply --with nic-rings --with merging --with completion-core --with flow-steering --with request-size --with socket-buffers \
  --with aio-requests --with unsent-bytes
everything >/tmp/applied
tune watch
link
penstock tune check | grep -e nic- -e swappiness -e numa-balancing
cmp -s /tmp/before /tmp/applied && echo "= nothing has changed" || echo "= something has changed"
tune revert
everything >/tmp/after
cmp -s /tmp/before /tmp/after && echo "= all is as before" || diff /tmp/before /tmp/after
diff /tmp/before /tmp/applied | grep -e '^[-+].*min_free_kbytes' -e '^[-+].*nr_requests' -e '^[-+]"rx"' -e '^[-+].*swappiness' -e '^[-+].*nomerges'
# The number of requests alone, under a scheduler that keeps a part of them; and bounds of the network that are asked for by name.
tune apply --only request-queue --only socket-buffer-bounds --only packet-backlog --only port-reuse
tune watch
tune revert
everything >/tmp/after
cmp -s /tmp/before /tmp/after && echo "= all is as before a second time" || diff /tmp/before /tmp/after
# Killed somewhere on the way, and then there and back again.
for part in 1 2 4; do
  penstock tune apply --with nic-rings >/dev/null &
  sleep 0.0$part
  kill -9 $!
  wait $!
  penstock tune revert >/dev/null
  echo "= revert after a kill ended with $?"
done
everything >/tmp/after
cmp -s /tmp/before /tmp/after && echo "= all is as before again" || diff /tmp/before /tmp/after
echo "= over"
poweroff -f
