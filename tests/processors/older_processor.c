/* Lets one x86-64 Linux machine stand for older ones: a program runs at full speed and is told of fewer instructions.
 *
 *   cc -O2 -Wall -shared -fPIC -Wl,-z,initfirst older_processor.c -o older_processor.so
 *   OLDER_PROCESSOR=avx2 LD_PRELOAD=./older_processor.so program ...
 *
 * Programs ask the processor what it can do with the instruction CPUID. Where the processor and the kernel offer "CPUID
 * faulting" (`cpuid_fault` in /proc/cpuinfo), the kernel turns each CPUID of a thread into a SIGSEGV. The handler here runs
 * the real CPUID, takes away what OLDER_PROCESSOR does not have, and goes on behind the instruction. Threads and forks
 * inherit the fault; an exec ends it, and the preloaded library of the new program starts it again.
 *
 * Nothing is emulated: instructions that a program was compiled for, or uses without asking, still run. glibc chooses its
 * own memcpy and the like before this starts; GLIBC_TUNABLES could tell it otherwise, but no number depends on that.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __x86_64__
#error "CPUID is an instruction of x86"
#endif

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))
#define REFUSED 77 /* exit status: this machine or OLDER_PROCESSOR is not what is needed */

enum { EAX, EBX, ECX, EDX };

/* What each processor lacks, newest first; each also lacks all that stands above it. */
struct level { const char *name; int rank; };
static const struct level levels[] = {
    {"avx512vnni", 1}, /* Ice Lake, Zen 4: no AMX, no FP16 arithmetic */
    {"avx512", 2},     /* Skylake-X: no dot products, no BF16 */
    {"avxvnni", 3},    /* Alder Lake: no AVX-512, but dot products of 256 bits */
    {"avx2", 4},       /* Haswell to Zen 3 */
    {"avx", 5},        /* Sandy Bridge */
    {"sse4", 6},       /* Nehalem */
};

/* A feature of CPUID (leaf, subleaf, register) and the ranks from `first` to `last` that lack it. */
struct feature { unsigned leaf, subleaf; int reg; unsigned bits; int first, last; };
static const struct feature features[] = {
    {7, 0, EDX, BIT(22) | BIT(23) | BIT(24) | BIT(25), 1, 6}, /* AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8 */
    {7, 1, EAX, BIT(21) | BIT(23), 1, 6},                     /* AMX-FP16, AVX-IFMA */
    {7, 1, EDX, BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19) | BIT(21), 1, 6}, /* AVX-VNNI-INT8 and later, AVX10, APX */
    {0xd, 0, EAX, BIT(17) | BIT(18), 1, 6},                   /* the state of AMX */
    {7, 0, ECX, BIT(11), 2, 6},                               /* AVX512-VNNI */
    {7, 1, EAX, BIT(5), 2, 6},                                /* AVX512-BF16 */
    {7, 0, ECX, BIT(1) | BIT(6) | BIT(12) | BIT(14), 2, 6},   /* AVX512-VBMI, -VBMI2, -BITALG, -VPOPCNTDQ */
    {7, 0, EDX, BIT(2) | BIT(3) | BIT(8), 2, 6},              /* AVX512-4VNNIW, -4FMAPS, -VP2INTERSECT */
    {7, 0, EBX, BIT(21), 2, 6},                               /* AVX512-IFMA */
    {7, 0, EBX, BIT(16) | BIT(17) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31), 3, 6}, /* AVX512-F, -DQ, ... */
    {0xd, 0, EAX, BIT(5) | BIT(6) | BIT(7), 3, 6},            /* the state of AVX-512 */
    {7, 1, EAX, BIT(4), 1, 2},                                /* AVX-VNNI: Alder Lake has it, Ice Lake does not */
    {7, 1, EAX, BIT(4), 4, 6},
    {7, 0, EBX, BIT(3) | BIT(5) | BIT(8), 5, 6},              /* BMI1, AVX2, BMI2 */
    {7, 0, ECX, BIT(9) | BIT(10), 5, 6},                      /* VAES, VPCLMULQDQ */
    {1, 0, ECX, BIT(12) | BIT(29), 5, 6},                     /* FMA, F16C */
    {1, 0, ECX, BIT(28), 6, 6},                               /* AVX */
    {0xd, 0, EAX, BIT(2), 6, 6},                              /* the state of AVX */
};

static int rank;
static struct sigaction others; /* what the program itself wants done with SIGSEGV */

static long let_cpuid(long allowed) { /* no libc: a handler must leave errno alone */
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_arch_prctl), "D"(ARCH_SET_CPUID), "S"(allowed) : "rcx", "r11", "memory");
    return result;
}

static void older_cpuid(greg_t *registers) {
    unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX], out[4];
    let_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(out[EAX]), "=b"(out[EBX]), "=c"(out[ECX]), "=d"(out[EDX]) : "a"(leaf), "c"(subleaf));
    let_cpuid(0);
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        const struct feature *f = &features[i];
        int has_subleaves = leaf == 7 || leaf == 0xd;
        if (f->leaf == leaf && (!has_subleaves || f->subleaf == subleaf) && f->first <= rank && rank <= f->last)
            out[f->reg] &= ~f->bits;
    }
    if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) /* AMX tiles, AVX10 */
        memset(out, 0, sizeof out);
    registers[REG_RAX] = out[EAX];
    registers[REG_RBX] = out[EBX];
    registers[REG_RCX] = out[ECX];
    registers[REG_RDX] = out[EDX];
    registers[REG_RIP] += 2;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    /* A general protection fault of the kernel's making has no address; only then can the instruction be read for sure. */
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (info->si_code == SI_KERNEL && info->si_addr == NULL && code[0] == 0x0f && code[1] == 0xa2) {
        older_cpuid(registers);
    } else if (others.sa_flags & SA_SIGINFO) {
        others.sa_sigaction(number, info, context);
    } else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
        others.sa_handler(number);
    } else { /* die of it: the instruction runs again with no handler */
        struct sigaction none = {.sa_handler = SIG_DFL};
        ((int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction"))(number, &none, NULL);
    }
}

static int libc_sigaction(int number, const struct sigaction *act, struct sigaction *old) {
    static int (*next)(int, const struct sigaction *, struct sigaction *);
    if (!next)
        next = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    return next(number, act, old);
}

/* Programs that handle SIGSEGV themselves (faulthandler, .NET) get what is not a CPUID. */
int sigaction(int number, const struct sigaction *act, struct sigaction *old) {
    if (number != SIGSEGV || !rank)
        return libc_sigaction(number, act, old);
    struct sigaction before = others;
    if (act)
        others = *act;
    if (old)
        *old = before;
    return 0;
}

sighandler_t signal(int number, sighandler_t handler) {
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    return sigaction(number, &act, &old) ? SIG_ERR : old.sa_handler;
}

static void refuse(const char *why) {
    static const char who[] = "older_processor: ";
    if (write(2, who, sizeof who - 1) < 0 || write(2, why, strlen(why)) < 0 || write(2, "\n", 1) < 0) {}
    _exit(REFUSED);
}

/* Linked with initfirst, so that no other library asks before; getenv does not work as early as that. */
__attribute__((constructor)) static void start(int count, char **arguments, char **environment) {
    static const char variable[] = "OLDER_PROCESSOR=";
    const char *name = NULL;
    int wanted = 0;
    (void)count, (void)arguments;
    for (; *environment && !name; environment++)
        if (!strncmp(*environment, variable, sizeof variable - 1))
            name = *environment + sizeof variable - 1;
    for (size_t i = 0; name && i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(name, levels[i].name))
            wanted = levels[i].rank;
    if (!wanted)
        refuse("OLDER_PROCESSOR is none of avx512vnni, avx512, avxvnni, avx2, avx, sse4");
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    libc_sigaction(SIGSEGV, &act, &others);
    if (let_cpuid(0))
        refuse("this processor or kernel does not fault on CPUID");
    rank = wanted;
}
