// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_msg: virtio devices that are reached by messages. Their life, and what
 * buses call.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/wait_bit.h>

#include "vmsg_transport.h"

/* Devices that have not been freed. */
static atomic_t vmsg_live = ATOMIC_INIT(0);

/* --- sysfs: where a device is, in virtio_msg/ of its folder. --- */

static ssize_t bus_show(struct device *d, struct device_attribute *attr,
			char *buf)
{
	struct vmsg_device *dev = to_vmsg_device(dev_to_virtio(d));

	return sysfs_emit(buf, "%s\n", dev->bus_name);
}
static DEVICE_ATTR_RO(bus);

static ssize_t device_number_show(struct device *d,
				  struct device_attribute *attr, char *buf)
{
	struct vmsg_device *dev = to_vmsg_device(dev_to_virtio(d));

	return sysfs_emit(buf, "%u\n", dev->number);
}
static DEVICE_ATTR_RO(device_number);

static struct attribute *vmsg_attrs[] = {
	&dev_attr_bus.attr,
	&dev_attr_device_number.attr,
	NULL,
};

static const struct attribute_group vmsg_group = {
	.name = "virtio_msg",
	.attrs = vmsg_attrs,
};

static const struct attribute_group *vmsg_groups[] = { &vmsg_group, NULL };

/* --- For buses. --- */

static void vmsg_device_free(struct kref *ref)
{
	struct vmsg_device *dev = container_of(ref, struct vmsg_device, ref);

	mutex_destroy(&dev->lock);
	mutex_destroy(&dev->config_lock);
	kfree(dev);
	if (atomic_dec_and_test(&vmsg_live))
		wake_up_var(&vmsg_live);
}

static void vmsg_device_release(struct device *d)
{
	vmsg_device_put(to_vmsg_device(dev_to_virtio(d)));
}

/**
 * vmsg_device_create() - make a device that is not registered yet
 * @parent: does the DMA; a reference is not taken, but by the driver core
 * @ops: of the bus
 * @bus_data: for @ops
 * @bus_name: shown to users; borrowed
 * @number: device number
 *
 * Return: the device, with one reference for the caller, or NULL.
 */
struct vmsg_device *vmsg_device_create(struct device *parent,
				       const struct vmsg_bus_ops *ops,
				       void *bus_data, const char *bus_name,
				       u16 number)
{
	struct vmsg_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (!dev)
		return NULL;
	atomic_inc(&vmsg_live);
	kref_init(&dev->ref);
	mutex_init(&dev->lock);
	mutex_init(&dev->config_lock);
	dev->ops = ops;
	dev->bus_data = bus_data;
	dev->bus_name = bus_name;
	dev->number = number;
	dev->vdev.dev.parent = parent;
	dev->vdev.dev.release = vmsg_device_release;
	dev->vdev.dev.groups = vmsg_groups;
	dev->vdev.config = &vmsg_config_ops;
	return dev;
}
EXPORT_SYMBOL_GPL(vmsg_device_create);

/* -ENODEV: there is no device under this number. */
static int vmsg_get_info(struct vmsg_device *dev, struct vmsg_device_info *info)
{
	struct vmsg_message request, response;
	int err;

	vmsg_prepare(&request, 0, VMSG_GET_DEVICE_INFO, dev->number, 0);
	err = vmsg_call(dev, &request, &response,
			sizeof(response.device_info));
	if (err)
		return err;
	*info = response.device_info;
	return info->device_id ? 0 : -ENODEV;
}

/**
 * vmsg_device_register() - ask a device what it is, and give it to its driver
 * @dev: from vmsg_device_create(); requests and events work already
 *
 * Sleeps, also while the virtio driver probes the device.
 *
 * Return: 0; -ENODEV when there is no device under this number, or another
 * negative error. After an error the caller drops its reference, no more.
 */
int vmsg_device_register(struct vmsg_device *dev)
{
	struct vmsg_device_info info;
	int err = vmsg_get_info(dev, &info);

	if (err)
		return err;
	dev->vdev.id.device = le32_to_cpu(info.device_id);
	dev->vdev.id.vendor = le32_to_cpu(info.vendor_id);
	dev->feature_blocks = le32_to_cpu(info.num_feature_bits) / 32;
	dev->config_size = le32_to_cpu(info.config_size);
	dev->max_queues = le32_to_cpu(info.max_virtqueues);

	vmsg_device_get(dev);
	err = register_virtio_device(&dev->vdev);
	if (err)
		put_device(&dev->vdev.dev);
	return err;
}
EXPORT_SYMBOL_GPL(vmsg_device_register);

/**
 * vmsg_device_unregister() - take a device from its driver, and reset it
 * @dev: was registered with success
 *
 * The driver may still use the device while it lets go of it, so the bus has
 * to carry messages until the end, if it can. Sleeps. When it returns the
 * device has been reset, or does not answer, and is gone. The caller still has
 * its reference, and stops passing events.
 */
void vmsg_device_unregister(struct vmsg_device *dev)
{
	WRITE_ONCE(dev->leaving, true);
	unregister_virtio_device(&dev->vdev);
	/* There was no driver to do it. */
	if (!READ_ONCE(dev->gone))
		vmsg_reset(&dev->vdev);
}
EXPORT_SYMBOL_GPL(vmsg_device_unregister);

/**
 * vmsg_device_get() - take a reference
 * @dev: the device
 *
 * Any context.
 */
void vmsg_device_get(struct vmsg_device *dev)
{
	kref_get(&dev->ref);
}
EXPORT_SYMBOL_GPL(vmsg_device_get);

/**
 * vmsg_device_put() - drop a reference
 * @dev: the device, or NULL
 */
void vmsg_device_put(struct vmsg_device *dev)
{
	if (dev)
		kref_put(&dev->ref, vmsg_device_free);
}
EXPORT_SYMBOL_GPL(vmsg_device_put);

/**
 * vmsg_device_gone() - the bus is down
 * @dev: in any state
 *
 * No message is sent from now on, virtqueues take no buffers any more.
 * Requests that are being waited for are for the bus to end. Process context.
 */
void vmsg_device_gone(struct vmsg_device *dev)
{
	WRITE_ONCE(dev->gone, true);
	if (READ_ONCE(dev->core_ready))
		virtio_break_device(&dev->vdev);
}
EXPORT_SYMBOL_GPL(vmsg_device_gone);

/**
 * vmsg_device_shutdown() - the system goes down under a device in use
 * @dev: in any state
 *
 * The device is reset if it answers, so that it does not write to memory that
 * belongs to the next kernel, and is gone. Sleeps.
 */
void vmsg_device_shutdown(struct vmsg_device *dev)
{
	WRITE_ONCE(dev->leaving, true);
	if (READ_ONCE(dev->core_ready)) {
		virtio_break_device(&dev->vdev);
		vmsg_reset(&dev->vdev);
	}
	vmsg_device_gone(dev);
}
EXPORT_SYMBOL_GPL(vmsg_device_shutdown);

/**
 * vmsg_device_event() - an event of the device has arrived
 * @dev: in any state
 * @msg: a transport event, with a sound header; the rest is checked here
 *
 * For a bus: not in parallel for one device, nor with vmsg_device_flush(),
 * in the order in which the events came, and with interrupts disabled on this
 * CPU, since that is how drivers expect their callbacks.
 */
void vmsg_device_event(struct vmsg_device *dev, const struct vmsg_message *msg)
{
	if (!READ_ONCE(dev->core_ready))
		return;
	switch (msg->header.msg_id) {
	case VMSG_EVENT_USED:
		vmsg_queue_used(dev, msg);
		break;
	case VMSG_EVENT_CONFIG:
		vmsg_config_event(dev, msg);
		break;
	}
}
EXPORT_SYMBOL_GPL(vmsg_device_event);

#ifdef CONFIG_PM_SLEEP
/**
 * vmsg_device_freeze() - stop using a device, as the system goes to sleep
 * @dev: registered
 *
 * Return: 0, or a negative error: the driver goes on.
 */
int vmsg_device_freeze(struct vmsg_device *dev)
{
	return virtio_device_freeze(&dev->vdev);
}
EXPORT_SYMBOL_GPL(vmsg_device_freeze);

/* The device may be another by now. The core uses what it knew before. */
static int vmsg_find_unchanged(struct vmsg_device *dev)
{
	struct vmsg_device_info info;
	int err = vmsg_get_info(dev, &info);

	if (err)
		return err;
	if (le32_to_cpu(info.device_id) != dev->vdev.id.device ||
	    le32_to_cpu(info.num_feature_bits) / 32 != dev->feature_blocks ||
	    le32_to_cpu(info.config_size) != dev->config_size ||
	    le32_to_cpu(info.max_virtqueues) != dev->max_queues)
		return -ENODEV;
	if (dev->vdev.features & ~vmsg_config_ops.get_features(&dev->vdev))
		return -ENODEV;
	return 0;
}

/**
 * vmsg_device_restore() - start a device again
 * @dev: frozen
 *
 * Return: 0, or a negative error: the device isn't what it was.
 */
int vmsg_device_restore(struct vmsg_device *dev)
{
	int err;

	/* One that was silent is asked again after a reset only. */
	vmsg_reset(&dev->vdev);
	err = vmsg_find_unchanged(dev);
	return err ?: virtio_device_restore(&dev->vdev);
}
EXPORT_SYMBOL_GPL(vmsg_device_restore);
#endif

static int __init vmsg_init(void)
{
	return 0;
}
module_init(vmsg_init);

/* Who still refers to a device ends in vmsg_device_free(), which is ours. */
static void __exit vmsg_exit(void)
{
	wait_var_event(&vmsg_live, !atomic_read(&vmsg_live));
}
module_exit(vmsg_exit);

MODULE_DESCRIPTION("virtio devices that are reached by messages");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
