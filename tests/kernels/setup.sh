# shellcheck shell=bash
# What `./dev test --kernels` needs below build/: sourced by ./dev, whose functions it uses.
#
#   build/tools/SUITE/        the kernel of that Debian suite, unpacked
#   build/kernels/root/       a small Debian: unpacked packages, Python's packages, the official CNI plugins
#   build/kernels/root.state  a hash of what the root depends on; it is made anew when this changes
#
# The root is made of unpacked packages, so nothing of this machine gets into it, and it takes no right that ordinary
# users lack. The few things that the packages' installation would have done are in `finish_root`.

# shellcheck disable=SC2034  # for ./dev
readonly KERNEL_SUITES=(bullseye bookworm trixie forky)
readonly ROOT=build/kernels/root
readonly ROOT_SUITE=bookworm
readonly ROOT_PYTHON=3.11
readonly ROOT_PACKAGES=(
    mount kmod iproute2 iptables nftables conntrack ethtool procps iputils-ping dnsmasq-base tcpdump
    "python$ROOT_PYTHON" "libpython$ROOT_PYTHON-dev" python3 gcc libc6-dev
)

# set_up_kernels SUITE...: the kernels of these suites, and the root.
set_up_kernels() {
    local suite packages
    [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] ||
        die "the kernels are Debian's, for amd64: run this on such a Debian (a container will do)"
    for suite in "$@"; do
        [[ -z $(kernel_version "$suite") ]] || continue
        mapfile -t packages < <(kernel_packages "$suite")
        [[ ${#packages[@]} -gt 0 ]] || die "no kernel: Debian has no suite '$suite', or its list cannot be had"
        unpack_suite_packages "$suite" "${packages[@]}"
        [[ -n $(kernel_version "$suite") ]] || die "the kernel of $suite cannot be had: ${packages[*]}"
    done
    make_root
}

# The version of the suite's unpacked kernel; nothing if there is none.
kernel_version() {
    find "$TOOLS/$1/lib/modules/" "$TOOLS/$1/usr/lib/modules/" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -V | tail -1
}

# The packages that make up the suite's kernel: linux-image-*, in newer suites with linux-binary-* and linux-modules-*.
kernel_packages() {
    local directory=$TOOLS/$1/apt package
    update_suite_list "$1" "$directory" >&2 || return 0
    package=$(dependencies "$directory" linux-image-cloud-amd64 | grep -E '^linux-image-[0-9]' | head -1)
    echo "$package"
    dependencies "$directory" "$package" | grep -E '^linux-(binary|modules)-[0-9]' || true
}

dependencies() {
    of_suite "$PWD/$1" apt-cache depends --important "$2" 2>/dev/null | sed -n 's/^ *|\?Depends: *//p'
}

make_root() {
    local state
    state=$(cat tests/kernels/setup.sh pyproject.toml "$TOOLS/$CNI_SUITE/usr/lib/cni/bridge" | sha256sum)
    [[ -e $ROOT.state && $(<"$ROOT.state") == "$state" ]] && return
    say "making the machines' root in $ROOT, once"
    rm -rf "$ROOT" "$ROOT.state"
    unpack_root
    finish_root
    install_python_packages
    echo "$state" >"$ROOT.state"
}

# Unpack the packages with all that they depend on. To apt, nothing is installed yet.
unpack_root() {
    local apt=$PWD/$TOOLS/$ROOT_SUITE/apt deb directory
    update_suite_list "$ROOT_SUITE" "$TOOLS/$ROOT_SUITE/apt" || die "the list of Debian's $ROOT_SUITE cannot be had"
    : >"$apt/nothing-installed"
    logged of_suite "$apt" apt-get -o Dir::State::Status="$apt/nothing-installed" -o APT::Install-Recommends=false \
        -o APT::Architectures=amd64 -o Debug::NoLocking=true --yes --download-only install '?essential' "${ROOT_PACKAGES[@]}"
    for directory in bin sbin lib lib64; do
        mkdir -p "$ROOT/usr/$directory"
        ln -s "usr/$directory" "$ROOT/$directory"
    done
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-owner --keep-directory-symlink -C "$ROOT"
    done
    rm "$apt"/cache/archives/*.deb
}

# What installing the packages would have done.
finish_root() {
    local family suffix
    cp "$ROOT/usr/share/base-passwd/passwd.master" "$ROOT/etc/passwd"
    cp "$ROOT/usr/share/base-passwd/group.master" "$ROOT/etc/group"
    echo "127.0.0.1 localhost" >"$ROOT/etc/hosts"
    for family in iptables ip6tables; do
        for suffix in '' -save -restore; do
            ln -s "$family-nft$suffix" "$ROOT/usr/sbin/$family$suffix"
        done
    done
    mkdir -p "$ROOT"/usr/{libexec/cni,lib/modules} "$ROOT"/{dev,etc/cni,home,mnt,opt,proc,root,run,srv,sys,tmp,var/lib/cni}
    printf '#!/usr/bin/python3 -I\nimport sys\nfrom dataplane.cli import main\nsys.exit(main())\n' >"$ROOT/usr/bin/udplane"
    chmod 755 "$ROOT/usr/bin/udplane"
    cp "$TOOLS/$CNI_SUITE"/usr/lib/cni/* "$ROOT/usr/libexec/cni/"
}

# Install what pyproject.toml asks for by this machine's pip, for the root's Python.
install_python_packages() {
    local target=$ROOT/usr/local/lib/python$ROOT_PYTHON/dist-packages requirements
    mapfile -t requirements < <("$VENV/bin/python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    conf = tomllib.load(file)
project = conf["project"]
print(*conf["build-system"]["requires"], *project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")')
    logged "$VENV/bin/python" -m pip install --disable-pip-version-check --target "$target" --only-binary :all: \
        --implementation cp --python-version "$ROOT_PYTHON" --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "${requirements[@]}"
    echo /root/udplane >"$target/udplane.pth"
}
