#!/usr/bin/env bash
# Counts the instructions of one run of FaceNet, R-Net and O-Net by the kernels for 64-bit ARM, on an emulated
# Cortex-A76: with SDOT, with plain NEON and scalar. The emulator's time says nothing about a real CPU's; its count of
# instructions does. Needs what scripts/test-aarch64.sh has installed and unpacked; that is run before.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/target/aarch64
mkdir -p "$root"

# What QEMU's plugin API needs of us (docs/devel/tcg-plugins in QEMU's source): no header of it is packaged.
cat >"$root/count.c" <<'C'
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t id_t_;
struct tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *, int, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(id_t_, void (*)(id_t_, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern void qemu_plugin_outs(const char *);

int qemu_plugin_version = 1;
static uint64_t count;

static void translated(id_t_ id, struct tb *tb)
{
    /* 0: add to a 64-bit number. */
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &count, qemu_plugin_tb_n_insns(tb));
}

static void ended(id_t_ id, void *data)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64 "\n", count);
    qemu_plugin_outs(text);
}

int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
C
gcc -shared -fPIC -O2 -o "$root/libcount.so" "$root/count.c"

program=$(scripts/test-aarch64.sh --bench instructions)

# Usage: count CPU NETWORK RUNS
count() {
    env MFR_CPU="$1" qemu-aarch64 -L "$root/sysroot" -cpu cortex-a76 -plugin "$root/libcount.so" -d plugin \
        -D "$root/count.txt" "$program" "$2" "$3" >/dev/null
    cat "$root/count.txt"
}

printf '%-10s %14s %14s %14s   instructions of one run, in millions\n' network neon-dotprod neon scalar
for network in facenet rnet onet; do
    printf '%-10s' "$network"
    for cpu in neon-dotprod neon scalar; do
        one=$(count "$cpu" "$network" 1)
        three=$(count "$cpu" "$network" 3)
        awk -v one="$one" -v three="$three" 'BEGIN { printf " %14.2f", (three - one) / 2e6 }'
    done
    echo
done
