/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the FIFO use of the kernel, for a test that runs outside of
 * it, on a little-endian machine.
 */
#ifndef VMSG_TEST_KERNEL_H
#define VMSG_TEST_KERNEL_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* As in the kernel, without a message. C11 wants one. */
#define static_assert(condition) _Static_assert(condition, #condition)
#define __packed __attribute__((packed))
#define sizeof_field(type, field) sizeof(((type *)NULL)->field)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(n) (1U << (n))
#define IS_ALIGNED(value, to) (!((value) & ((to) - 1)))

#define le16_to_cpu(value) (value)
#define le32_to_cpu(value) (value)
#define le64_to_cpu(value) (value)
#define cpu_to_le16(value) ((__le16)(value))
#define cpu_to_le32(value) (value)

#define READ_ONCE(from) (*(const volatile __typeof__(from) *)&(from))
#define WRITE_ONCE(to, value) (*(volatile __typeof__(to) *)&(to) = (value))
#define virt_load_acquire(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define virt_store_release(to, value) \
	__atomic_store_n(to, value, __ATOMIC_RELEASE)

static inline bool is_power_of_2(unsigned long value)
{
	return value && !(value & (value - 1));
}

#endif /* VMSG_TEST_KERNEL_H */
