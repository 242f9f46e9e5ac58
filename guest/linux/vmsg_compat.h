/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place that asks for the version of the kernel.
 */
#ifndef VMSG_COMPAT_H
#define VMSG_COMPAT_H

#include <linux/timer.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "Linux 6.1 or later, please"
#endif

/* Only some of 6.1 have the new name; all have the old one. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define timer_delete_sync(timer)	del_timer_sync(timer)
#endif

/*
 * find_vqs(): its arguments after the third, and what they say of queue i.
 * Before 6.11 there were three arrays in the place of one.
 */
struct vmsg_wanted {
	const char *name;	/* NULL: the driver doesn't use this one */
	void (*callback)(struct virtqueue *vq);
	bool ctx;
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)

#define VMSG_FIND_VQS_ARGS	struct virtqueue_info vqs_info[], \
				struct irq_affinity *desc
#define VMSG_WANTED(i)		((struct vmsg_wanted){ \
					.name = vqs_info[i].name, \
					.callback = vqs_info[i].callback, \
					.ctx = vqs_info[i].ctx })

#else

#define VMSG_FIND_VQS_ARGS	vq_callback_t *callbacks[], \
				const char * const names[], \
				const bool *ctx, struct irq_affinity *desc
#define VMSG_WANTED(i)		((struct vmsg_wanted){ \
					.name = names[i], \
					.callback = callbacks[i], \
					.ctx = ctx && ctx[i] })

#endif

#endif /* VMSG_COMPAT_H */
