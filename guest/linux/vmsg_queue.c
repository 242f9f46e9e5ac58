// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtqueues, and the notifications of both sides.
 * Source: virtio-msg-messages, 4.8 to 4.10, 4.13, 4.14 and 6.8.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/virtio_ring.h>

#include "vmsg_transport.h"

/* Source: virtio 1.2, 2.7 and 2.8. */
#define VMSG_MAX_QUEUE_SIZE	32768

/* -ENOENT: there is no such queue; -ENODEV: nor a device. */
static int vmsg_get_vqueue(struct vmsg_device *dev, u32 index,
			   struct vmsg_vqueue_info *info)
{
	struct vmsg_message request, response;
	int err;

	vmsg_prepare(&request, 0, VMSG_GET_VQUEUE, dev->number,
		     sizeof(request.index));
	request.index.index = cpu_to_le32(index);
	err = vmsg_call(dev, &request, &response,
			sizeof(response.vqueue_info));
	if (err)
		return err;
	if (le32_to_cpu(response.vqueue_info.index) != index)
		return -EPROTO;
	if (!response.vqueue_info.max_size)
		return vmsg_has_left(dev) ? -ENODEV : -ENOENT;
	*info = response.vqueue_info;
	return 0;
}

/* The answer to SET_VQUEUE says nothing, so that the device is asked. */
static int vmsg_set_vqueue(struct vmsg_device *dev, struct virtqueue *vq)
{
	struct vmsg_message request, response;
	struct vmsg_vqueue_info info;
	int err;

	vmsg_prepare(&request, 0, VMSG_SET_VQUEUE, dev->number,
		     sizeof(request.set_vqueue));
	request.set_vqueue.index = cpu_to_le32(vq->index);
	request.set_vqueue.size = cpu_to_le32(virtqueue_get_vring_size(vq));
	request.set_vqueue.desc_addr = cpu_to_le64(virtqueue_get_desc_addr(vq));
	request.set_vqueue.driver_addr =
		cpu_to_le64(virtqueue_get_avail_addr(vq));
	request.set_vqueue.device_addr =
		cpu_to_le64(virtqueue_get_used_addr(vq));
	err = vmsg_call(dev, &request, &response, 0);
	if (err)
		return err;
	err = vmsg_get_vqueue(dev, vq->index, &info);
	if (err)
		return err;
	if (info.cur_size != request.set_vqueue.size ||
	    info.desc_addr != request.set_vqueue.desc_addr ||
	    info.driver_addr != request.set_vqueue.driver_addr ||
	    info.device_addr != request.set_vqueue.device_addr) {
		vmsg_err(dev, "does not take virtqueue %u\n", vq->index);
		return -EINVAL;
	}
	return 0;
}

/* --- Notifications. --- */

static int vmsg_send_avail(struct vmsg_device *dev, unsigned int index)
{
	struct vmsg_message msg;

	vmsg_prepare(&msg, 0, VMSG_EVENT_AVAIL, dev->number,
		     sizeof(msg.event_avail));
	msg.event_avail.index = cpu_to_le32(index);
	return dev->ops->event(dev, &msg);
}

/*
 * Drivers call this with their locks held and in interrupt handlers, so room is
 * waited for a short time only: this long, as a driver may wait for the queue
 * next, with interrupts disabled, and then nobody flushes on this processor. An
 * event that found no room is remembered: it says no more than "look at the
 * queue". One that is remembered already has been waited for.
 */
#define VMSG_NOTIFY_STEP_US	10
#define VMSG_NOTIFY_STEPS	300

static bool vmsg_vq_notify(struct virtqueue *vq)
{
	struct vmsg_device *dev = to_vmsg_device(vq->vdev);
	unsigned int steps = VMSG_NOTIFY_STEPS;
	int err;

	if (READ_ONCE(dev->gone))
		return false;
	while ((err = vmsg_send_avail(dev, vq->index)) == -ENOSPC &&
	       !test_bit(vq->index, dev->kicks) && steps--)
		udelay(VMSG_NOTIFY_STEP_US);
	if (err != -ENOSPC)
		return !err;
	set_bit(vq->index, dev->kicks);
	/* Who is asked to flush finds the bit. */
	smp_mb__after_atomic();
	dev->ops->flush_later(dev);
	return true;
}

/**
 * vmsg_device_flush() - send the events that found no room
 * @dev: the device
 *
 * For a bus: not in parallel for one device, nor with vmsg_device_event().
 * Any context.
 *
 * Return: false when there is still no room for all of them.
 */
bool vmsg_device_flush(struct vmsg_device *dev)
{
	unsigned int index;

	/* Pairs with vmsg_find_vqs(). */
	if (!smp_load_acquire(&dev->queues) || READ_ONCE(dev->gone))
		return true;
	for_each_set_bit(index, dev->kicks, dev->num_queues) {
		if (!test_and_clear_bit(index, dev->kicks))
			continue;
		if (vmsg_send_avail(dev, index) == -ENOSPC) {
			set_bit(index, dev->kicks);
			return false;
		}
	}
	return true;
}
EXPORT_SYMBOL_GPL(vmsg_device_flush);

void vmsg_queue_used(struct vmsg_device *dev, const struct vmsg_message *msg)
{
	/* Pairs with vmsg_find_vqs(). */
	struct virtqueue **queues = smp_load_acquire(&dev->queues);
	struct virtqueue *vq;
	u32 index;

	if (!queues || vmsg_payload(msg) < sizeof(msg->index))
		return;
	index = le32_to_cpu(msg->index.index);
	if (index >= dev->num_queues)
		return;
	vq = READ_ONCE(queues[index]);
	if (vq)
		vring_interrupt(0, vq);
}

/* --- Making and breaking. --- */

/* The number of the queues that the driver wants; others take no index. */
static struct virtqueue *vmsg_make_vq(struct vmsg_device *dev, u32 index,
				      const struct vmsg_wanted *wanted)
{
	struct virtio_device *vdev = &dev->vdev;
	struct vmsg_vqueue_info info;
	struct virtqueue *vq;
	u32 size;
	int err;

	if (index >= dev->max_queues)
		return ERR_PTR(-ENOENT);
	err = vmsg_get_vqueue(dev, index, &info);
	if (err)
		return ERR_PTR(err);
	size = min_t(u32, le32_to_cpu(info.max_size), VMSG_MAX_QUEUE_SIZE);
	if (info.cur_size) {
		vmsg_err(dev, "virtqueue %u is in use already\n", index);
		return ERR_PTR(-EBUSY);
	}
	/* Packed rings may have any size. */
	if (!virtio_has_feature(vdev, VIRTIO_F_RING_PACKED))
		size = rounddown_pow_of_two(size);

	vq = vring_create_virtqueue(index, size, SMP_CACHE_BYTES, vdev,
				    /* weak_barriers */ true,
				    /* may_reduce_num */ true, wanted->ctx,
				    vmsg_vq_notify, wanted->callback,
				    wanted->name);
	if (!vq)
		return ERR_PTR(-ENOMEM);
	vq->num_max = size;

	/* The device may use it as soon as it knows it. */
	WRITE_ONCE(dev->queues[index], vq);
	err = vmsg_set_vqueue(dev, vq);
	if (err) {
		WRITE_ONCE(dev->queues[index], NULL);
		dev->ops->synchronize(dev);
		vring_del_virtqueue(vq);
		return ERR_PTR(err);
	}
	return vq;
}

int vmsg_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
		  struct virtqueue *vqs[], VMSG_FIND_VQS_ARGS)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	struct virtqueue **queues;
	unsigned int i, index = 0;

	queues = kcalloc(nvqs, sizeof(*queues), GFP_KERNEL);
	dev->kicks = bitmap_zalloc(nvqs, GFP_KERNEL);
	if (!queues || !dev->kicks) {
		kfree(queues);
		bitmap_free(dev->kicks);
		dev->kicks = NULL;
		return -ENOMEM;
	}
	dev->num_queues = nvqs;
	/* Who sees the pointer sees the rest. */
	smp_store_release(&dev->queues, queues);

	for (i = 0; i < nvqs; i++) {
		struct vmsg_wanted wanted = VMSG_WANTED(i);

		vqs[i] = NULL;
		if (!wanted.name)
			continue;
		vqs[i] = vmsg_make_vq(dev, index++, &wanted);
		if (IS_ERR(vqs[i])) {
			int err = PTR_ERR(vqs[i]);

			vmsg_del_vqs(vdev);
			return err;
		}
	}
	return 0;
}

/* The device has been reset, or never got to DRIVER_OK. */
void vmsg_del_vqs(struct virtio_device *vdev)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	struct virtqueue **queues = dev->queues;
	struct virtqueue *vq, *next;

	WRITE_ONCE(dev->queues, NULL);
	dev->ops->synchronize(dev);
	list_for_each_entry_safe(vq, next, &vdev->vqs, list)
		vring_del_virtqueue(vq);
	kfree(queues);
	bitmap_free(dev->kicks);
	dev->kicks = NULL;
	dev->num_queues = 0;
}

/* --- VIRTIO_F_RING_RESET. --- */

int vmsg_vq_disable_and_reset(struct virtqueue *vq)
{
	struct vmsg_device *dev = to_vmsg_device(vq->vdev);
	struct vmsg_message request, response;
	struct vmsg_vqueue_info info;
	int err;

	if (!virtio_has_feature(vq->vdev, VIRTIO_F_RING_RESET))
		return -ENOENT;
	vmsg_prepare(&request, 0, VMSG_RESET_VQUEUE, dev->number,
		     sizeof(request.index));
	request.index.index = cpu_to_le32(vq->index);
	err = vmsg_call(dev, &request, &response, 0);
	if (!err)
		err = vmsg_get_vqueue(dev, vq->index, &info);
	if (err)
		return err;
	if (info.cur_size)
		return -EIO;

	WRITE_ONCE(dev->queues[vq->index], NULL);
	clear_bit(vq->index, dev->kicks);
#ifdef CONFIG_VIRTIO_HARDEN_NOTIFICATION
	__virtqueue_break(vq);
#endif
	dev->ops->synchronize(dev);
	vq->reset = true;
	return 0;
}

int vmsg_vq_enable_after_reset(struct virtqueue *vq)
{
	struct vmsg_device *dev = to_vmsg_device(vq->vdev);
	int err;

	if (!vq->reset)
		return -EBUSY;
	WRITE_ONCE(dev->queues[vq->index], vq);
#ifdef CONFIG_VIRTIO_HARDEN_NOTIFICATION
	__virtqueue_unbreak(vq);
#endif
	err = vmsg_set_vqueue(dev, vq);
	if (err) {
		WRITE_ONCE(dev->queues[vq->index], NULL);
		dev->ops->synchronize(dev);
		return err;
	}
	vq->reset = false;
	return 0;
}
