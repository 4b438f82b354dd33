#!/usr/bin/env bash
# laptop.sh [--user] [PYTEST ARGUMENT ...]: the suite as on a contributor's laptop, as root or with --user as an ordinary
# user. Called by `./dev test --laptop`, as root; all that it makes is in namespaces or in one directory, which goes at
# the end.
#
#   a copy of the checkout     in a path with a blank and an umlaut
#   HOME                       not writable          umask, TZ, LANG    not those of a server
#   /dev/net/tun               open to everybody, as udev makes it
#   each process of the suite  laptop_host.sh: a network with the traces of Docker, of another CNI and of a firewall
set -euo pipefail
readonly CHECKOUT=$PWD
readonly ORDINARY_USER=65534 # nobody

main() {
    local user=() directory copy
    if [[ ${1:-} == --user ]]; then
        user=(setpriv "--reuid=$ORDINARY_USER" "--regid=$ORDINARY_USER" --clear-groups)
        shift
    fi
    directory=$(mktemp -d)
    # shellcheck disable=SC2064  # the directory of now
    trap "rm -rf '$directory'" EXIT
    chmod 755 "$directory"
    copy="$directory/Kopie für mich/udplane"
    copy_checkout "$copy"
    mkdir "$directory/home" "$directory/tmp"
    chmod 1777 "$directory/tmp"
    mknod -m 666 "$directory/tun" c 10 200
    [[ ${#user[@]} -eq 0 ]] || chown -R "$ORDINARY_USER:$ORDINARY_USER" "$directory/Kopie für mich"
    unshare --mount -- bash -euc "$ENTER" enter "$directory" "$copy" "${user[@]}" ./dev test --numprocesses=auto "$@"
}

# What a machine looks like from within; the rest of the arguments is a command.
# shellcheck disable=SC2016  # it is another shell that fills these in
readonly ENTER='
    directory=$1 copy=$2
    shift 2
    mount --bind "$directory/tun" /dev/net/tun
    mount --bind "$directory/home" "$directory/home"
    mount -o remount,bind,ro "$directory/home"
    cd "$copy"
    umask 077
    unset LOGNAME USER XDG_CACHE_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR
    export HOME=$directory/home TMPDIR=$directory/tmp LANG=de_DE.UTF-8 LC_ALL= LANGUAGE=de TZ=Pacific/Chatham
    export UDPLANE_SUITE_HOST=$copy/tests/suite/laptop_host.sh
    exec "$@"
'

# copy_checkout DIRECTORY: what is in the checkout or would be added to it, as a checkout of git; with what ./dev has
# unpacked, which is large.
copy_checkout() {
    mkdir -p "$1/build"
    git -C "$CHECKOUT" ls-files -z --cached --others --exclude-standard |
        tar -C "$CHECKOUT" --null --files-from=- --ignore-failed-read -c 2>/dev/null | tar -C "$1" -x
    ln -s "$CHECKOUT/build/tools" "$1/build/tools"
    git -C "$1" init --quiet
    git -C "$1" add --all
}

main "$@"
