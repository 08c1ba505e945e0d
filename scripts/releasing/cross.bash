# Sourced in the top directory: what cargo needs to build static programs for another architecture.

# use_target ARCH: puts the toolchain for amd64 or arm64 into PATH, tells cargo of its C compiler,
# and sets `triple`. Without ARCH it is for this machine, and with the toolchain in PATH.
use_target() {
    local tools gnu upper compiler
    case ${1:-} in
    '') gnu=$(uname -m) ;;
    amd64) gnu=x86_64 ;;
    arm64) gnu=aarch64 ;;
    *) echo "no architecture $1: amd64, arm64" >&2; return 64 ;;
    esac
    triple=$gnu-unknown-linux-gnu
    if [ -n "${1:-}" ]; then
        tools=$(scripts/toolchain "$1")
        export PATH=${tools:+$tools:}$PATH
    fi
    compiler=cc
    upper=${triple^^}
    if [ "$gnu" != "$(uname -m)" ]; then
        compiler=$gnu-linux-gnu-gcc
        export "CC_${triple//-/_}=$compiler" "AR_${triple//-/_}=$gnu-linux-gnu-ar" "CARGO_TARGET_${upper//-/_}_LINKER=$compiler"
    fi
    if [ "$gnu" = aarch64 ]; then
        # By name, so that no path of this host gets into cargo's hashes.
        export STATIC_PIE_GCC=$compiler PATH=$PATH:$PWD/scripts/releasing/linker
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=static-pie-gcc
    fi
}
