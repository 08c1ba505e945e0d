# The checks of scripts/install-sidecar, which sources this file: before it adds the sidecar, that
# sidecar and encryption config will work; before it removes it, that nothing needs them.
# shellcheck shell=bash disable=SC2154 # variables and functions of scripts/install-sidecar

# Of the sidecar's container in a manifest.
sidecar() { field "$1" "{range .spec.initContainers[?(@.name==\"barbican-kms\")]}$2{end}"; }

# The image's check: options of `ctr run`, then --, then arguments of the check.
check_in() { # image
    local image=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    ctr -n k8s.io run --rm --net-host --read-only "${options[@]}" "$image" "barbican-kms-check-$$" \
        /bin/barbican-kms check "$@" >&2
}
bind() { echo "type=bind,src=$(realpath "$1"),dst=$2,options=rbind:ro"; }

# Options of `ctr run` for the user, mounts and capabilities that the kubelet gives the sidecar.
as_sidecar() { # manifest; fills `options`
    local user group name at path all capabilities capability
    user=$(sidecar "$1" '{.securityContext.runAsUser}')
    group=$(sidecar "$1" '{.securityContext.runAsGroup}')
    options=(--user "${user:-65532}:${group:-0}")
    while IFS=$'\t' read -r name at; do
        path=$(field "$1" "{.spec.volumes[?(@.name==\"$name\")].hostPath.path}")
        [ -n "$path" ] || continue
        if [ -e "$path" ]; then
            options+=(--mount "$(bind "$path" "$at")")
        else
            # The kubelet creates these; the check does not need them.
            case $(field "$1" "{.spec.volumes[?(@.name==\"$name\")].hostPath.type}") in
            *OrCreate) ;;
            *) die "$path: not there, and the sidecar mounts it" ;;
            esac
        fi
    done < <(sidecar "$1" '{range .volumeMounts[*]}{.name}{"\t"}{.mountPath}{"\n"}{end}')
    for path in /etc/resolv.conf /etc/hosts; do # the kubelet's part
        [ ! -e "$path" ] || options+=(--mount "$(bind "$path" "$path")")
    done
    while read -r name; do
        [ -z "$name" ] || options+=(--env "$name")
    done < <(sidecar "$1" '{range .env[*]}{.name}={.value}{"\n"}{end}')
    # ctr does not know ALL; these are its default capabilities.
    all="AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
    capabilities=$(sidecar "$1" '{.securityContext.capabilities.drop[*]}')
    for capability in ${capabilities/ALL/$all}; do
        options+=(--cap-drop "CAP_$capability")
    done
}

# What an encryption config can decrypt: a line for each resource with a provider or key.
opens() { # encryption config
    field "$1" '{range .resources[*]}{.resources[*]}|{range .providers[*]};kms {.kms.name} {.kms.apiVersion};identity {.identity};aescbc {.aescbc.keys[*].name};aesgcm {.aesgcm.keys[*].name};secretbox {.secretbox.keys[*].name}{end}{"\n"}{end}' |
        awk -F'|' '{
            resources = split($1, resource, " ")
            for (p = split($2, provider, ";"); p > 0; p--) {
                words = split(provider[p], word, " ")
                for (r = 1; r <= resources; r++)
                    if (word[1] == "kms" && words > 1)
                        print resource[r], "kms", word[2], (words > 2 ? word[3] : "v1")
                    else
                        for (w = 2; w <= words; w++) print resource[r], word[1], word[w]
            }
        }' | sort -u
}

check_encryption() { # new manifest, image or nothing
    local old lost
    [ -f "$encryption" ] || die "$encryption: not there; copy static-pod/encryption-config-read.yaml (or encryption-config.yaml) there"
    if [ -n "$program" ]; then
        "$program" check --encryption-config "$encryption" --manifest "$1" >&2
    else
        # As root: kube-apiserver reads this file, not the sidecar.
        check_in "$2" --user 0:0 --mount "$(bind "$encryption" "$encryption")" --mount "$(bind "$1" "$manifest")" \
            --mount "$(bind "$patches" "${manifest%/*/*}/patches")" -- --encryption-config "$encryption" --manifest "$manifest"
    fi || [ -n "$force" ] || die "the encryption config does not work, see above; nothing was changed (use --force to continue)"
    old=$(flag --encryption-provider-config)
    [ -n "$old" ] && [ "$old" != "$encryption" ] && [ -z "$force" ] || return 0
    [ -f "$old" ] || die "$old: not there, so it is not known what it can decrypt and $encryption cannot (use --force to continue)"
    opens "$old" >"$work/before"
    opens "$encryption" >"$work/after"
    lost=$(comm -23 "$work/before" "$work/after" | paste -sd, | sed 's/,/, /g')
    [ -z "$lost" ] || die "$encryption cannot decrypt everything that $old can: $lost. Add these to it: static-pod/README.md, From the Go plugin (use --force to continue)"
}

check_config() { # new manifest
    local config image='' options
    config=$(sidecar "$1" '{.args[*]}' | tr ' ' '\n' | sed -n 's/^--cloud-config=//p')
    [ -f "$config" ] || die "$config: not there; it is the sidecar's cloud-config"
    [ -z "$(find -L "$config" -perm /037)" ] || say "WARNING: $config is readable by other users: chmod 600 (or 640) it"
    if [ -z "$program" ]; then
        command -v ctr >/dev/null || die "no ctr on this node to run the check of the image: use --program FILE"
        image=$(sidecar "$1" '{.image}')
        # Not grep -q, which would exit before ctr has written everything, and fail the pipe.
        ctr -n k8s.io images ls -q | grep -xF -- "$image" >/dev/null ||
            die "the image $image is not on this node: ctr -n k8s.io images pull (or import), or correct the name in $patches"
    fi
    check_encryption "$1" "$image"
    [ -n "$program" ] || as_sidecar "$1"
    if [ -n "$program" ]; then
        "$program" check --cloud-config "$config" >&2
    else
        check_in "$image" "${options[@]}" -- --cloud-config "$config"
    fi || die "the cloud-config does not work, see above; nothing was changed"
}

# Whether kube-apiserver has loaded its encryption config. Newer versions report the hash of the
# file; for older ones, the start or last reload must be later than the file.
has_loaded() { # file
    local metrics
    metrics=$(ask /metrics) || return 1
    if [[ $metrics == *apiserver_encryption_config_controller_last_config_info{* ]]; then
        [[ $metrics == *,hash=\"sha256:"$(sha256sum <"$1" | cut -d' ' -f1)"\"* ]]
    else
        awk -v file="$(stat -c %Z "$1")" '
            /^process_start_time_seconds / { last = $2 }
            /^apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds\{.*"success"/ && $2 > last { last = $2 }
            END { exit !(last > file) }' <<<"$metrics"
    fi
}

encrypted_objects() { # prints keys of etcd whose value is encrypted, by whatever provider
    local prefix last page from to key url option
    command -v curl >/dev/null || die "curl is needed to read etcd (or use --force)"
    url=$(flag --etcd-servers); url=${url%%,*}
    prefix=$(flag --etcd-prefix); prefix=${prefix:-/registry}/
    local tls=()
    for option in cacert=--etcd-cafile cert=--etcd-certfile key=--etcd-keyfile; do
        last=$(flag "${option#*=}")
        [ -z "$last" ] || tls+=("--${option%%=*}" "$last")
    done
    from=$(printf %s "$prefix" | base64 -w0)
    to=$(printf %s "${prefix%/}0" | base64 -w0) # 0 is the character after /
    while :; do
        page=$(curl -sSf --max-time 60 "${tls[@]}" -d "{\"key\":\"$from\",\"range_end\":\"$to\",\"limit\":200}" "$url/v3/kv/range") || return 1
        # k8s:enc: ends within a base64 group: of its 12th character, two bits are the next byte's.
        printf %s "$page" | grep -oE '"key":"[^"]*"[^{}]*"value":"azhzOmVuYz[o-r]' | sed 's/^"key":"\([^"]*\)".*/\1/' |
            while read -r key; do printf '%s\n' "$(base64 -d <<<"$key")"; done
        [[ $page == *'"more":true'* ]] || return 0
        last=$(printf %s "$page" | grep -o '"key":"[^"]*"' | tail -n 1 | sed 's/^"key":"\(.*\)"$/\1/')
        from=$({ base64 -d <<<"$last"; printf '\0'; } | base64 -w0)
    done
}

# Refuses to remove what kube-apiserver needs to read what is, or will be, in etcd.
check_nothing_encrypted() {
    local config sealed
    config=$(flag --encryption-provider-config)
    if [ -f "$config" ]; then
        # Also for the other nodes, which have the same file and might write after this check.
        [ -z "$(field "$config" '{range .resources[*]}first {.providers[0].identity}{"\n"}{end}' | grep -vx 'first {}')" ] ||
            die "$config still encrypts new data; make identity the first provider, on every node: static-pod/README.md, Rollback"
        has_loaded "$config" || die "kube-apiserver has not reloaded $config yet: use --wait-reload"
    fi
    sealed=$(encrypted_objects) || die "cannot read etcd; --force uninstalls nevertheless"
    [ -z "$sealed" ] || die "etcd holds $(wc -l <<<"$sealed") encrypted objects, such as $(head -n 1 <<<"$sealed"); write them in clear text first: static-pod/README.md, Rollback"
}
