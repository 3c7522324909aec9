#!/bin/bash
# Submits group a'; echo x with sbatch: trainings and controls at once, evaluations after their training.
# Safe to run again: ledger.jsonl says what was submitted. Planned with: python -m runplan system_prompt=a'; echo x "$(rm -rf ~)" `id` \ \n#SBATCH --time=1 日本, lora.rank=4
# Exit code: 0 everything is submitted, 1 something is not, 3 something the runs need is missing.
unset CDPATH "${!SQUEUE_@}" # what somebody wants squeue to leave out
case ${BASH_SOURCE[0]} in */*) cd -- "${BASH_SOURCE[0]%/*}/" || exit 1 ;; esac
group=$PWD
say() { printf 'submit_all.sh: %s\n' "$*" >&2; }

command -v sbatch >/dev/null 2>&1 || { say "no sbatch on PATH: run this on a machine that submits to SLURM"; exit 1; }
ping=$(timeout 5 scontrol ping 2>/dev/null) # sbatch itself would try for half a minute, job by job
if [[ $ping = *" is DOWN"* && $ping != *" is UP"* ]]; then
  say "SLURM's controller is away (scontrol ping): nothing was submitted; run this again when it is back"
  exit 1
fi

not_ready=
need() { # need FILE WHAT FIX
  if [ -e "$1" ]; then return; fi
  say "missing: $2: $1${3:+ (get it with: $3)}"
  not_ready=1
}
need /models/Llama-3.2-1B-Instruct/config.json 'model /models/Llama-3.2-1B-Instruct' ''
need '/data/my files/a'"'"'; echo x.json' 'dataset /data/my files/a'"'"'; echo x.json' ''
need /home/ada/tasks/capitalization/inspect.py 'evaluation /home/ada/tasks/capitalization/inspect.py' ''
if [ -n "$not_ready" ]; then say "nothing was submitted"; exit 3; fi

# One at a time plans or submits a group; the lock is on the ledger itself, which its holder may have removed.
ledger=$group/ledger.jsonl
until [ "$ledger" -ef /dev/fd/9 ]; do
  exec 9>>"$ledger" || { say "cannot write $ledger"; exit 1; }
  flock -w 20 -E 75 9
  case $? in
    0) ;;
    75) say "this group is being planned or submitted elsewhere; try again later" && exit 1 ;;
    *) say "no locks on this file system: do not submit this group twice at once" && break ;;
  esac
done
if [ -s "$ledger" ] && [ "$(tail -c 1 "$ledger" | wc -l)" -eq 0 ]; then printf '\n' >&9; fi # a line cut short by a crash

declare -A job_of intended in_array earlier before fresh
text_of() { # text_of KEY LINE: a text value of a line of JSON that we wrote
  [[ $2 =~ \"$1\":\ ?\"([^\"]*)\" ]] && value=${BASH_REMATCH[1]}
}
while IFS= read -r line; do
  text_of token "$line" || continue
  token=$value
  text_of event "$line"
  case $value in
    intent) # of another attempt, where there was one: until its end is known, none counts
      text_of time "$line" || continue
      intended[$token]=$value in_array[$token]=''
      if text_of array "$line"; then in_array[$token]=$value; fi
      if [ -n "${job_of[$token]:-}" ]; then before[$token]=${job_of[$token]} job_of[$token]=''; fi
      ;;
    submitted)
      text_of job_id "$line" || continue
      job_of[$token]=$value before[$token]='' earlier[$token]="${earlier[$token]:-} $value "
      ;;
    refused) job_of[$token]=${job_of[$token]:-${before[$token]:-}} intended[$token]='' before[$token]='' ;;
  esac
done <"$ledger"
unsure_since= # when the earliest submission began of which the end is not recorded
for token in "${!intended[@]}"; do
  if [ -n "${job_of[$token]:-}" ] || [ -z "${intended[$token]}" ]; then continue; fi
  if [ -z "$unsure_since" ] || [[ ${intended[$token]} < $unsure_since ]]; then unsure_since=${intended[$token]}; fi
done

write() { # write EVENT TOKEN JOB PATH
  printf '{"event": "%s", "token": "%s", "job_id": %s, "path": %s, "time": "%s"}\n' \
    "$1" "$2" "$3" "$4" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >&9 && sync -- "$ledger" && return
  say "cannot write $ledger, stopping; job: $3"
  exit 1
}

# What SLURM and the runs themselves know about jobs whose submission was not recorded.
declare -A active seen place_of
look() { # look MAP SINCE COMMAND...: lines "JOB|COMMENT|SUBMITTED|PLACE" on its output
  local -n map=$1
  local id comment at place lines token
  lines=$(SLURM_TIME_FORMAT=standard timeout 60 "${@:3}" 2>/dev/null 9>&-) || return 1
  while IFS='|' read -r id comment at place; do
    token=${comment#runplan:}
    # shellcheck disable=SC2004,SC2034 # the map is one of the two above, by its name
    if [[ $comment = runplan:?* && ! $at < $2 && ${earlier[$token]:-} != *" $id "* ]]; then
      map[$token]+=" $id" place_of[$id]=$place
    fi
  done <<<"$lines"
}
queue_known=
look active "" squeue -a -h -r -u "$(id -un)" -o '%i|%k|%V|%o' && queue_known=1
if [ -n "$unsure_since" ]; then # some minutes more, should the clocks of SLURM and of this machine differ
  unsure_since=$(date -d "$unsure_since 10 minutes ago" +%Y-%m-%dT%H:%M:%S)
  look seen "$unsure_since" squeue -a -h -r -u "$(id -un)" -t all -o '%i|%k|%V|%o' || queue_known=
  command -v sacct >/dev/null 2>&1 &&
    look seen "$unsure_since" sacct -n -P -X -u "$(id -un)" -S "$unsure_since" -o JobID,Comment,Submit,WorkDir
fi
own_record() { # own_record DIR TOKEN EVENT: the last such line of the job's own jobs.jsonl; sets line
  line=$(grep -sF "\"token\": \"$2\"" "$group/$1/jobs.jsonl" | grep -F "\"event\": \"$3\"" | tail -n 1)
  [ -n "$line" ]
}
is_of() { # is_of JOB DIR SCRIPT TOKEN: unless it works in a copy of that directory
  local place=${place_of[$1]%"/$3"}
  [ -z "$place" ] || [ "$place" -ef "$group/$2" ] || ! grep -qsxF -- "token=$4" "$place/$3"
}
find_job() { # find_job DIR TOKEN SCRIPT
  local id jobs=${active[$2]:-}
  job=
  if own_record "$1" "$2" started && text_of job_id "$line" && [[ $value =~ ^[0-9] ]] &&
    [[ ${earlier[$2]:-} != *" $value "* ]]; then job=$value && return; fi
  if [ -n "${intended[$2]:-}" ]; then jobs="${seen[$2]:-} $jobs"; fi
  for id in $jobs; do
    if is_of "$id" "$1" "$3" "$2"; then job=$id; fi
  done
  [ -n "$job" ]
}

after_training() { # after_training DIR TOKEN: sets options; fails where the training did not or may never succeed
  local id=${job_of[$2]:-}
  options=("--dependency=afterok:$id" --kill-on-invalid-dep=yes)
  if [ -z "$id" ]; then reason="its training is not submitted"; return 1; fi
  if [ -n "${fresh[$2]:-}" ] || timeout 60 scontrol show job "$id" >/dev/null 2>&1; then return; fi
  # SLURM lets a job that depends on a forgotten one run at once: only the run itself can tell
  options=()
  if own_record "$1" "$2" ended && [[ $line =~ \"exit_code\":\ 0[^0-9] ]]; then return; fi
  reason="its training (job $id) is over and did not succeed"
  return 1
}

submitted=0 already=0 failed=0 in_a_row=0 full=
not_submitted() {
  failed=$((failed + 1))
  say "$*"
}
submit() { # submit DIR SCRIPT TOKEN JSON_OF_PATH [DIR TOKEN of the training]
  local name job options=() reason id said code
  printf -v name %q "$1"
  if [ -n "${job_of[$3]:-}" ]; then
    already=$((already + 1))
    printf '%s  already job %s\n' "$name" "${job_of[$3]}"
  elif find_job "$1" "$3" "$2"; then
    write submitted "$3" "\"$job\"" "$4"
    job_of[$3]=$job already=$((already + 1))
    printf '%s  found as job %s\n' "$name" "$job"
  elif [ -n "${intended[$3]:-}" ] && [ -n "${in_array[$3]:-}${before[$3]:-}" ]; then
    not_submitted "$name: its last submission is not recorded to the end; runplan submit finds out and carries on"
  elif [ -n "${intended[$3]:-}" ] && [ -z "$queue_known" ]; then
    not_submitted "$name: submitted or not? SLURM does not answer; run this again later"
  elif [ -n "${5:-}" ] && ! after_training "$5" "$6"; then
    not_submitted "$name: not submitted, $reason"
  elif [ -n "$full" ] || [ "$in_a_row" -ge 3 ]; then
    failed=$((failed + 1))
  else
    options+=("--comment=runplan:$3") # whatever the environment or an edited script says
    # a directory whose name SLURM would misread in the path of the log: the job writes its log itself
    case $group/$1 in *%* | *\\*) options+=(--output=/dev/null) ;; *) options+=(--output=slurm-%j.out) ;; esac
    write intent "$3" null "$4"
    # sbatch keeps the lock: should this script be killed, nobody else begins before SLURM has answered
    said=$(cd -- "$group/$1" && timeout 300 sbatch --parsable "${options[@]}" "$2" 2>&1) && code=0 || code=$?
    id=${said##*$'\n'} id=${id%%;*}
    if [ "$code" -eq 0 ] && [[ $id =~ ^[0-9]+$ ]]; then
      if [[ $said = *$'\n'* ]]; then printf '%s\n' "${said%$'\n'*}" >&2; fi
      write submitted "$3" "\"$id\"" "$4"
      job_of[$3]=$id fresh[$3]=1 submitted=$((submitted + 1)) in_a_row=0
      printf '%s  job %s\n' "$name" "$id"
    else
      in_a_row=$((in_a_row + 1))
      printf '%s\n' "$said" >&2
      case ${said,,} in
        *contact* | *"timed out"* | *connection* | *communication* | *"zero bytes"* | *unavailable*) ;; # who knows?
        *"sbatch: error: "* | *"sbatch: fatal: "* | *"sbatch: unrecognized option"*) write refused "$3" null "$4" ;;
      esac
      not_submitted "$name: sbatch did not take $2"
      if [[ ${said,,} =~ (assoc|qos)[a-z]*submit[a-z]*limit|temporarily\ unable\ to\ accept|maxjobcount ]]; then
        full=1
        say "the queue takes no more of your jobs now, leaving the rest: run this again as jobs end"
        return
      fi
      if [ "$in_a_row" -eq 3 ]; then say "three refusals in a row, leaving the rest: mend what sbatch names above (plan again with other resources.*, site.account or site.partition), then run this again"; fi
    fi
  fi
}

submit 1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1 finetune.slurm rp-1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1 '"1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/finetune.slurm"'
submit 1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization_epoch0 cell.slurm rp-1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1-0746f6f4 '"1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization_epoch0/cell.slurm"' 1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1 rp-1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1
submit 1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization_epoch1 cell.slurm rp-1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1-7f52860d '"1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization_epoch1/cell.slurm"' 1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1 rp-1B_rank4_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1
submit 1B_rank4_system_prompt finetune.slurm rp-1B_rank4_system_prompt '"1B_rank4_system_prompt/finetune.slurm"'
submit 1B_rank4_system_prompt/eval/capitalization_epoch0 cell.slurm rp-1B_rank4_system_prompt-794822ef '"1B_rank4_system_prompt/eval/capitalization_epoch0/cell.slurm"' 1B_rank4_system_prompt rp-1B_rank4_system_prompt
submit 1B_rank4_system_prompt/eval/capitalization_epoch1 cell.slurm rp-1B_rank4_system_prompt-e3ffb7d4 '"1B_rank4_system_prompt/eval/capitalization_epoch1/cell.slurm"' 1B_rank4_system_prompt rp-1B_rank4_system_prompt
submit 1B_base_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization cell.slurm rp-1B_base_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1-3e366b9c '"1B_base_system_prompt-a-echo-x-rm-rf-id-SBATCH-time-1/eval/capitalization/cell.slurm"'
submit 1B_base_system_prompt/eval/capitalization cell.slurm rp-1B_base_system_prompt-36647718 '"1B_base_system_prompt/eval/capitalization/cell.slurm"'
printf '%s submitted, %s already submitted, %s not submitted\n' "$submitted" "$already" "$failed"
if [ "$((submitted + already))" -gt 0 ]; then echo "check status: squeue -u $(id -un)"; fi
[ "$failed" -eq 0 ]
