/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the transport (virtio_msg) and the buses that carry its messages
 * (virtio_msg_amp_pci).
 */
#ifndef VIRTIO_MSG_H
#define VIRTIO_MSG_H

#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/virtio.h>

#include "vmsg_wire.h"

struct vmsg_device;

/**
 * struct vmsg_bus_ops - what a bus does for the devices on it
 * @request: Send a request and wait for its answer. The bus sets the token,
 *	and checks that the answer belongs to the request and that its
 *	header.msg_size is possible; its payload is for the caller to check.
 *	Sleeps. 0, -ETIMEDOUT when no answer (or no room to send) came in
 *	time, another negative error when the bus is down. There is one
 *	request at a time for a device.
 * @event: Send an event. Any context, also with spinlocks held; doesn't wait.
 *	0, -ENOSPC when there is no room, another negative error when the bus
 *	is down.
 * @flush_later: Call vmsg_device_flush() soon, outside the caller. Any
 *	context.
 * @synchronize: Calls of vmsg_device_event() and vmsg_device_flush() for any
 *	device of the bus that had begun before have returned. Sleeps, or not.
 */
struct vmsg_bus_ops {
	int (*request)(struct vmsg_device *dev,
		       const struct vmsg_message *request,
		       struct vmsg_message *response);
	int (*event)(struct vmsg_device *dev, const struct vmsg_message *msg);
	void (*flush_later)(struct vmsg_device *dev);
	void (*synchronize)(struct vmsg_device *dev);
};

/**
 * struct vmsg_device - a virtio device that is reached by messages
 * @vdev: the core's device
 * @ref: one of the bus, one of the driver core
 *
 * Constant from vmsg_device_create() on:
 * @ops: of the bus
 * @bus_data: for @ops
 * @bus_name: shown in sysfs
 * @number: header.dev_num
 *
 * Constant from the answer to GET_DEVICE_INFO on:
 * @feature_blocks: 32-bit feature words that the device has
 * @config_size: bytes of configuration space
 * @max_queues: virtqueues that the device has
 *
 * @lock: makes requests one at a time; protects the next two
 * @silent: a request got no answer. Only a reset is tried from then on
 * @status: what the device has last said it is
 *
 * @gone: no message is sent any more; set once, never cleared
 * @leaving: being unregistered: gone after its next reset
 * @core_ready: what virtio_config_changed() uses has been set up
 * @generation: of the configuration; the last that was seen
 * @config_lock: makes accesses to the configuration one at a time
 * @offered: features that the device offers
 *
 * Between find_vqs and del_vqs:
 * @num_queues: entries in the next two
 * @queues: by index; NULL for one that is not there or reset. Changes are
 *	seen by vmsg_device_event() and _flush() at the latest after
 *	vmsg_bus_ops.synchronize()
 * @kicks: queues whose EVENT_AVAIL waits for room
 */
struct vmsg_device {
	struct virtio_device vdev;
	struct kref ref;

	const struct vmsg_bus_ops *ops;
	void *bus_data;
	const char *bus_name;
	u16 number;

	u32 feature_blocks;
	u32 config_size;
	u32 max_queues;

	struct mutex lock;
	bool silent;
	u8 status;

	bool gone;
	bool leaving;
	bool core_ready;
	u32 generation;
	struct mutex config_lock;
	u64 offered;

	unsigned int num_queues;
	struct virtqueue **queues;
	unsigned long *kicks;
};

/**
 * vmsg_patience() - how long a device is waited for
 * @usual: in jiffies
 *
 * Any context. May change while one waits.
 *
 * Return: @usual, or less on the way to a reboot, to power off or to another
 * kernel: what follows resets devices anyway, and does not wait.
 */
static inline unsigned long vmsg_patience(unsigned long usual)
{
	switch (READ_ONCE(system_state)) {
	case SYSTEM_HALT:
	case SYSTEM_POWER_OFF:
	case SYSTEM_RESTART:
		return min_t(unsigned long, usual, HZ);
	default:
		return usual;
	}
}

struct vmsg_device *vmsg_device_create(struct device *parent,
				       const struct vmsg_bus_ops *ops,
				       void *bus_data, const char *bus_name,
				       u16 number);
int vmsg_device_register(struct vmsg_device *dev);
void vmsg_device_unregister(struct vmsg_device *dev);
void vmsg_device_get(struct vmsg_device *dev);
void vmsg_device_put(struct vmsg_device *dev);
void vmsg_device_gone(struct vmsg_device *dev);
void vmsg_device_shutdown(struct vmsg_device *dev);
void vmsg_device_event(struct vmsg_device *dev,
		       const struct vmsg_message *msg);
bool vmsg_device_flush(struct vmsg_device *dev);

#ifdef CONFIG_PM_SLEEP
int vmsg_device_freeze(struct vmsg_device *dev);
int vmsg_device_restore(struct vmsg_device *dev);
#endif

#endif /* VIRTIO_MSG_H */
