# Run a Python script beside a scheduler of Dask; two workers have a network, a name of the machine and a folder of their
# own. Arguments: PYTHON SCRIPT [ARGUMENT ...].
set -e
mount -t tmpfs none /run
ip link set lo up
ip link add bridge type bridge
ip addr add 10.9.0.1/24 dev bridge
ip link set bridge up
"$1" -m distributed.cli.dask_scheduler --host 10.9.0.1 --port 8786 --no-dashboard 2> scheduler.log &
for n in 2 3; do
  ip netns add node$n
  ip link add v$n type veth peer name eth0 netns node$n
  ip link set v$n master bridge up
  mkdir node$n
  ip netns exec node$n unshare --uts sh -c "
    hostname node$n
    ip link set lo up
    ip addr add 10.9.0.$n/24 dev eth0
    ip link set eth0 up
    cd node$n
    exec '$1' -m distributed.cli.dask_worker tcp://10.9.0.1:8786 --no-nanny --nthreads 1 --no-dashboard" 2> node$n.log &
done
exec "$@"
