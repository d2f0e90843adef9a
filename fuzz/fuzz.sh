#!/usr/bin/env bash
# usage: fuzz/fuzz.sh run SECONDS [TARGET...]     fuzz each target (all of them) for so long
#        fuzz/fuzz.sh minimize TARGET [FILE...]   make findings small and put them where `make test` runs them
#        fuzz/fuzz.sh distil [TARGET...]          replace the committed corpora by the least that covers as much
# On a stable compiler: the instrumentation is an LLVM pass that any has, only sanitizers want a nightly one. We need
# none: what is fuzzed has no unsafe code.
set -euo pipefail
cd "$(dirname "$0")"

targets() { sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml; }

# Inputs at most as long as what the target reads: a datagram, a description, a script of operations.
options() {
    local len=1500 dictionary=
    case $1 in
    rtp | srtp | classify) dictionary=rtp ;;
    rtcp) dictionary=rtcp ;;
    stun) dictionary=stun ;;
    payload) dictionary=payload ;;
    sdp_offer | trickle_frag) len=16384 dictionary=sdp ;;
    session_datagrams) len=4096 dictionary=rtcp ;;
    journal) len=16384 dictionary=journal ;;
    *) len=4096 ;;
    esac
    echo "-max_len=$len -timeout=10 -rss_limit_mb=512"
    [ -z "$dictionary" ] || echo "-dict=dictionaries/$dictionary.dict"
}

# Bytes of the files of a distilled corpus. Whole journals are long, and small ones reach half of what they do.
corpus_bytes_max() {
    case $1 in
    journal) echo 114688 ;;
    *) echo 49152 ;;
    esac
}

run() {
    local seconds=$1 target log failed=0
    shift
    [ $# -gt 0 ] || set -- $(targets)
    for target; do
        # What is found on the way stays out of the repository.
        mkdir -p "target/found/$target"
        log=target/found/$target.log
        echo "$target: $seconds s"
        # shellcheck disable=SC2046
        cargo fuzz run --sanitizer none "$target" "target/found/$target" "corpus/$target" -- \
            $(options "$target") -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1 || failed=1
        local executions
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        if [ "${executions:-0}" -eq 0 ]; then
            echo "$target ran no input; see fuzz/$log" >&2
            failed=1
        fi
        [ ! -s "$log" ] || ! grep -q '^SUMMARY: \|panicked at' "$log" || failed=1
        grep -E 'panicked at|breaks|^SUMMARY: |Test unit written to' "$log" || true
        echo "$target: ${executions:-0} executions, $(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
    done
    return $failed
}

minimize() {
    local target=$1 file small name
    shift
    [ $# -gt 0 ] || set -- artifacts/"$target"/*
    for file; do
        # A path as the caller sees it, from the root of the repository, or from here.
        [ -e "$file" ] || file=../$file
        small=target/minimized
        rm -f "$small"
        cargo fuzz run --sanitizer none "$target" "$file" -- -minimize_crash=1 -runs=10000 \
            -exact_artifact_path="$small" >/dev/null 2>&1 || true
        [ -s "$small" ] || cp "$file" "$small"
        name=corpus/$target/found-$(sha1sum <"$small" | cut -c 1-12)
        mv "$small" "$name"
        echo "fuzz/$name, $(stat -c %s "$name") bytes: commit it with the fix. It fails until then in"
        echo "    cargo test --workspace --test corpus committed::$target"
    done
}

distil() {
    local target new file
    [ $# -gt 0 ] || set -- $(targets)
    for target; do
        new=target/distilled/$target
        rm -rf "$new"
        mkdir -p "$new" "target/found/$target"
        # shellcheck disable=SC2046
        cargo fuzz run --sanitizer none "$target" "$new" "corpus/$target" "target/found/$target" -- \
            $(options "$target") -set_cover_merge=1 -use_counters=0 >"target/found/$target.log" 2>&1
        # Findings are kept whatever they cover; of the rest the small ones come first, until it is enough.
        find "corpus/$target" -type f ! -name 'found-*' -delete
        local bytes=0 size left_out=0
        while read -r size file; do
            bytes=$((bytes + size))
            if [ "$bytes" -gt "$(corpus_bytes_max "$target")" ]; then
                left_out=$((left_out + 1))
                continue
            fi
            cp "$file" "corpus/$target/$(sha1sum <"$file" | cut -c 1-12)"
        done < <(find "$new" -type f -printf '%s %p\n' | sort -n)
        echo "$target: $(find "corpus/$target" -type f | wc -l) inputs, $left_out had no room"
    done
}

command=${1:-}
shift || true
case $command in
run | minimize | distil) "$command" "$@" ;;
*)
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
    ;;
esac
