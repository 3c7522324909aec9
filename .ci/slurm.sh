#!/usr/bin/env bash
# A real SLURM with accounting on one Debian machine, as root: munge, MariaDB, slurmdbd, slurmctld and some slurmds that
# pretend to be GPU nodes. Everything lives in one directory and on private ports; a system-wide SLURM, munge or
# database is left alone. Both verbs may be repeated.
#
#   .ci/slurm.sh start     then: export SLURM_CONF=$(.ci/slurm.sh conf)
#   .ci/slurm.sh stop      stops what it started, by pid file and program name
#   .ci/slurm.sh conf      prints where slurm.conf is
set -euo pipefail

root=${RUNPLAN_SLURM_ROOT:-${TMPDIR:-/tmp}/runplan-slurm} # short: munge's socket path must stay below 108 characters
nodes=${RUNPLAN_SLURM_NODES:-4}
gpus_per_node=8
cpus_per_node=32
mem_mib_per_node=600000
min_job_age_s=${RUNPLAN_SLURM_MIN_JOB_AGE:-600} # how long squeue remembers a job that is over; 2 is the least
first_port=${RUNPLAN_SLURM_PORT:-27600}
controller_port=$first_port
dbd_port=$((first_port + 1))
database_port=$((first_port + 2))
first_node_port=$((first_port + 11))

cluster=ci
account=lab
host=$(hostname -s)
munge_socket=$root/run/munge.socket
packages=(munge mariadb-server slurmdbd slurmctld slurmd slurm-client)

export SLURM_CONF=$root/etc/slurm.conf DEBIAN_FRONTEND=noninteractive

say() { printf '[slurm %3ds] %s\n' "$SECONDS" "$*"; }

die() {
  printf 'slurm.sh: %s\n' "$1" >&2
  if [ -n "${2:-}" ] && [ -f "$2" ]; then tail -n 20 "$2" >&2; fi
  exit 1
}

# wait_for SECONDS WHAT LOG COMMAND...
wait_for() {
  local limit=$1 what=$2 log=$3
  shift 3
  for ((i = 0; i < limit * 10; i++)); do
    if "$@" >/dev/null 2>&1; then
      say "$what"
      return
    fi
    sleep 0.1
  done
  die "$what: not within $limit s" "$log"
}

# A pid file may outlive its process and the number may be another program's by now: the name is compared, too.
alive() {
  local pid
  pid=$(cat "$root/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1%%.*}" ]
}

# ---- configuration -------------------------------------------------------------------------------------------------

slurmdbd_conf() {
  cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$munge_socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$dbd_port
SlurmUser=root
LogFile=$root/log/slurmdbd.log
PidFile=$root/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$database_port
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CommitDelay=0
CONF
}

# Where cgroups (v1) can be made, memory limits are the kernel's and a job beyond its own is OUT_OF_MEMORY. Elsewhere,
# as in most containers, memory is watched by polling, and such a job is FAILED.
memory_cgroup=${RUNPLAN_SLURM_CGROUP-/sys/fs/cgroup/memory} # empty: none
has_cgroup() {
  local probe=$memory_cgroup/runplan-probe-$$
  [ -f "$memory_cgroup/memory.oom_control" ] && mkdir "$probe" 2>/dev/null && rmdir "$probe"
}

memory_conf() {
  if has_cgroup; then
    echo TaskPlugin=task/cgroup
  else
    printf '%s\n' TaskPlugin=task/none JobAcctGatherParams=OverMemoryKill
  fi
}

slurm_conf() {
  local names="n[1-$nodes]" ports="[$first_node_port-$((first_node_port + nodes - 1))]"
  if [ "$nodes" = 1 ]; then names=n1 ports=$first_node_port; fi
  cat <<CONF
ClusterName=$cluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$munge_socket
MpiDefault=none
ReturnToService=2
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
$(memory_conf)
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Tests wait for the scheduler: it shall not wait for more jobs to come.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_min_interval=0
# The nodes have more cores, memory and GPUs than this machine.
SlurmdParameters=config_overrides
KillWait=3
MinJobAge=$min_job_age_s
MessageTimeout=30
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$dbd_port
AccountingStoragePass=$munge_socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits
AccountingStoreFlags=job_comment,job_script
GresTypes=gpu
NodeName=$names NodeHostname=$host NodeAddr=127.0.0.1 Port=$ports CPUs=$cpus_per_node RealMemory=$mem_mib_per_node Gres=gpu:$gpus_per_node Feature=gpu80 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=24:00:00 DefaultTime=10 PriorityTier=9 PreemptMode=OFF State=UP
PartitionName=short Nodes=ALL MaxTime=00:30:00 PriorityTier=9 PreemptMode=OFF State=UP
# Their jobs make way for those of the others, and begin again, or are over.
PartitionName=spare Nodes=ALL MaxTime=24:00:00 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=scraps Nodes=ALL MaxTime=24:00:00 PriorityTier=1 PreemptMode=CANCEL State=UP
CONF
}

# slurmd loads its cgroup plugin whatever slurm.conf says, and looks for a mounted hierarchy unless it is told which.
cgroup_conf() {
  if [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" != cgroup2fs ]; then echo 'CgroupPlugin=cgroup/v1'; fi
  if has_cgroup; then echo 'ConstrainRAMSpace=yes'; fi
}

database_init() {
  cat <<SQL
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
SQL
}

write_configuration() {
  mkdir -p "$root"/{etc,run,log,state,spool,database,gpu}
  chmod 755 "$root" "$root"/*
  slurmdbd_conf >"$root/etc/slurmdbd.conf"
  chmod 600 "$root/etc/slurmdbd.conf" # slurmdbd refuses to start otherwise
  slurm_conf >"$SLURM_CONF"
  cgroup_conf >"$root/etc/cgroup.conf"
  database_init >"$root/etc/init.sql"
  # A GPU is a character device to SLURM. Number 195 is NVIDIA's; nobody opens these.
  for ((i = 0; i < gpus_per_node; i++)); do
    [ -c "$root/gpu/nvidia$i" ] || mknod "$root/gpu/nvidia$i" c 195 "$i"
  done
  echo "Name=gpu File=$root/gpu/nvidia[0-$((gpus_per_node - 1))]" >"$root/etc/gres.conf"
}

# ---- daemons, in the order in which they need each other -------------------------------------------------------------

install_packages() {
  local missing=() log=$root/log/apt.log
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  # Distribution defaults would start a system-wide daemon of each package on install; the private ones need none.
  { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 ||
    die "apt-get failed" "$log"
}

munge_answers() { munge --socket="$munge_socket" --no-input; }

start_munge() {
  local key=$root/etc/munge.key
  [ -s "$key" ] || mungekey --create --keyfile="$key"
  alive munged || munged --socket="$munge_socket" --key-file="$key" --pid-file="$root/run/munged.pid" \
    --log-file="$root/log/munged.log" --seed-file="$root/run/munged.seed" || die "munged" "$root/log/munged.log"
  wait_for 10 munge "$root/log/munged.log" munge_answers
}

database_answers() {
  mariadb --no-defaults --host=127.0.0.1 --port="$database_port" --user=slurm --password=slurm slurm_acct_db -e 'select 1'
}

start_database() {
  local data=$root/database log=$root/log/mariadbd.log
  chown mysql "$data"
  [ -d "$data/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$data" --skip-test-db >"$log" 2>&1 ||
    die "mariadb-install-db" "$log"
  if ! alive mariadbd; then
    setsid mariadbd --no-defaults --user=mysql --datadir="$data" --socket="$data/socket" --pid-file="$data/pid" \
      --bind-address=127.0.0.1 --port="$database_port" --skip-name-resolve --skip-log-bin --init-file="$root/etc/init.sql" \
      --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
      --performance-schema=OFF </dev/null >>"$log" 2>&1 &
    echo $! >"$root/run/mariadbd.pid"
  fi
  wait_for 30 MariaDB "$log" database_answers
}

# start_daemon NAME COMMAND...: each goes to the background by itself and writes its pid file.
start_daemon() {
  local name=$1
  shift
  alive "$name" || "$@" || die "$name" "$root/log/$name.log"
}

register() {
  sacctmgr -n -P list cluster format=cluster | grep -qx "$cluster" || sacctmgr -i -Q add cluster "$cluster"
  sacctmgr -n -P list account format=account | grep -qx "$account" ||
    sacctmgr -i -Q add account "$account" Cluster="$cluster"
  sacctmgr -n -P list assoc account="$account" user=root format=user | grep -qx root ||
    sacctmgr -i -Q add user root Account="$account" DefaultAccount="$account"
}

controller_answers() { scontrol ping | grep -q 'is UP'; }

nodes_are_up() { [ "$(sinfo -h -N -p main -o %t | grep -cE '^(idle|mix|alloc)')" -ge "$nodes" ]; }

start() {
  [ "$(id -u)" = 0 ] || die "needs root: slurmd starts jobs for their users"
  write_configuration
  install_packages
  start_munge
  start_database
  start_daemon slurmdbd slurmdbd
  wait_for 30 slurmdbd "$root/log/slurmdbd.log" sacctmgr -n list cluster
  register >>"$root/log/sacctmgr.log" 2>&1 || die "sacctmgr" "$root/log/sacctmgr.log"
  start_daemon slurmctld slurmctld
  wait_for 30 slurmctld "$root/log/slurmctld.log" controller_answers
  for ((i = 1; i <= nodes; i++)); do
    mkdir -p "$root/spool/n$i"
    start_daemon "slurmd.n$i" slurmd -N "n$i"
  done
  wait_for 30 "$nodes nodes with $gpus_per_node GPUs" "$root/log/slurmctld.log" nodes_are_up
}

cancel_jobs() {
  squeue -h -o %A | sort -u | xargs -r scancel
  for ((i = 0; i < 100; i++)); do
    [ -n "$(squeue -h -o %A)" ] || return 0
    sleep 0.1
  done
}

stop() {
  local names=() name
  if alive slurmctld; then cancel_jobs; fi
  for name in "$root"/run/slurmd.*.pid; do names+=("$(basename "$name" .pid)"); done
  names+=(slurmctld slurmdbd mariadbd munged)
  for name in "${names[@]}"; do
    alive "$name" || continue
    kill "$(cat "$root/run/$name.pid")"
    for ((i = 0; i < 100; i++)); do
      alive "$name" || break
      sleep 0.1
    done
    if alive "$name"; then die "$name does not stop" "$root/log/$name.log"; fi
  done
  say stopped
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  conf) echo "$SLURM_CONF" ;;
  *) die "usage: slurm.sh start | stop | conf" ;;
esac
