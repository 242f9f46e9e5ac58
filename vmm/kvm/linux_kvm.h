// The one place that includes <linux/kvm.h>; for the .cc files of vmm/kvm only.
//
// Some releases of the kernel's headers declare the arrays at the end of
// kvm_cpuid2, kvm_msrs, kvm_irq_routing and others through a wrapper with an
// empty struct, which has size 0 in C and size 1 in C++. The sizes, and with
// them the ioctl numbers, then are wrong in C++. The wrapper is replaced here
// before its first use.

#ifndef VMSG_VMM_KVM_LINUX_KVM_H_
#define VMSG_VMM_KVM_LINUX_KVM_H_

#ifdef __LINUX_KVM_H
#error "include vmm/kvm/linux_kvm.h instead of <linux/kvm.h>"
#endif

#include <linux/stddef.h>

// The kernel's own name, so a reserved one.
// NOLINTBEGIN(bugprone-reserved-identifier)
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
// NOLINTEND(bugprone-reserved-identifier)

#include <linux/kvm.h>

// The kernel's ABI: Documentation/virt/kvm/api.rst.
static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_cpuid_entry2) == 40);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_msr_entry) == 16);
static_assert(sizeof(kvm_msr_list) == 4);
static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_irq_routing_entry) == 48);
static_assert(sizeof(kvm_signal_mask) == 4);
static_assert(sizeof(kvm_userspace_memory_region) == 32);
static_assert(sizeof(kvm_ioeventfd) == 64);
static_assert(sizeof(kvm_irqfd) == 32);
static_assert(KVM_SET_CPUID2 == 0x4008ae90);
static_assert(KVM_SET_MSRS == 0x4008ae89);
static_assert(KVM_SET_GSI_ROUTING == 0x4008ae6a);
static_assert(KVM_SET_SIGNAL_MASK == 0x4004ae8b);

#endif  // VMSG_VMM_KVM_LINUX_KVM_H_
