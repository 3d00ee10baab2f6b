#!/bin/sh
# deadman.sh NAME SECONDS CONF OFF: switches this machine off when it was alone for so long, whatever else here has died.
# It is alone while the head does not answer, does not know it or takes it for down, and no job runs on it.
name=$1 alone=$2 conf=$3 off=$4
pause=$((alone / 20))
[ "$pause" -ge 1 ] || pause=1
[ "$pause" -le 30 ] || pause=30
echo -1000 2>/dev/null >/proc/self/oom_score_adj

now() {
  read -r up rest </proc/uptime
  echo "${up%%.*}"
}

heard() {
  said=$(SLURM_CONF=$conf PATH=$PATH:/usr/sbin:/sbin timeout 20 scontrol --oneliner show node "$name" 2>/dev/null) || return 1
  case $said in
    "NodeName=$name "*" State="*) state=${said#* State=} ;;
    *) return 1 ;;
  esac
  case ${state%% *} in
    *DOWN* | *UNKNOWN*) return 1 ;;
  esac
}

busy() {
  grep -qs '^slurmstepd: \[' /proc/[0-9]*/cmdline
}

# Should this process be killed as well, the system's own timer is still set; it is where systemd is.
arm() {
  [ -d /run/systemd/system ] && shutdown --no-wall -P "+$((alone / 30 + 1))" 2>/dev/null
}

last=$(now)
while :; do
  if heard || busy; then
    last=$(now)
    arm
  elif [ $(($(now) - last)) -ge "$alone" ]; then
    sh -c "$off"
  fi
  sleep "$pause"
done
