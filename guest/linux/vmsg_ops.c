// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests, and what of struct virtio_config_ops is neither configuration
 * space nor queues.
 *
 * A device answers each request, or the request runs into a timeout. After a
 * timeout the device is silent: requests fail at once, but for a reset. Its
 * queues, once started, are used as before, since they may well be served. When
 * the bus goes down, or the device was unregistered, it is gone: there are no
 * messages any more. Who reads the status of such a device gets what it was,
 * with DEVICE_NEEDS_RESET, until the device is reset, and 0 from then on.
 *
 * Source: virtio-msg-messages, 4.2, 4.3, 4.6, 4.7, 4.11, 6.6 and 6.7.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/virtio_ring.h>

#include "vmsg_transport.h"

/* An answered reset that isn't complete is waited for so long. */
#define VMSG_RESET_TIMEOUT	(30 * HZ)

/* --- Requests. --- */

static bool vmsg_is_reset(const struct vmsg_message *request)
{
	return request->header.msg_id == VMSG_SET_STATUS &&
	       !request->status.status;
}

static int vmsg_call_locked(struct vmsg_device *dev,
			    const struct vmsg_message *request,
			    struct vmsg_message *response, size_t min_payload)
{
	int err;

	lockdep_assert_held(&dev->lock);
	if (READ_ONCE(dev->gone))
		return -ENODEV;
	if (dev->silent && !vmsg_is_reset(request))
		return -EIO;
	err = dev->ops->request(dev, request, response);
	if (err == -ETIMEDOUT) {
		vmsg_err(dev, "does not answer (request %#x)\n",
			 request->header.msg_id);
		/* Its queues go on: they need no answers. */
		dev->silent = true;
	}
	if (err)
		return err;
	return vmsg_payload(response) < min_payload ? -EPROTO : 0;
}

int vmsg_call(struct vmsg_device *dev, const struct vmsg_message *request,
	      struct vmsg_message *response, size_t min_payload)
{
	int err;

	mutex_lock(&dev->lock);
	err = vmsg_call_locked(dev, request, response, min_payload);
	mutex_unlock(&dev->lock);
	return err;
}

/* --- Status. --- */

/* GET_STATUS, or SET_STATUS: both are answered with the status. */
static int vmsg_status(struct vmsg_device *dev, struct vmsg_message *request,
		       u8 *status)
{
	struct vmsg_message response;
	int err;

	mutex_lock(&dev->lock);
	err = vmsg_call_locked(dev, request, &response,
			       sizeof(response.status));
	if (!err) {
		dev->status = le32_to_cpu(response.status.status);
		if (vmsg_is_reset(request))
			dev->silent = false;
	}
	*status = dev->status;
	mutex_unlock(&dev->lock);
	return err;
}

static int vmsg_read_status(struct vmsg_device *dev, u8 *status)
{
	struct vmsg_message request;

	vmsg_prepare(&request, 0, VMSG_GET_STATUS, dev->number, 0);
	return vmsg_status(dev, &request, status);
}

bool vmsg_has_left(struct vmsg_device *dev)
{
	u8 status;

	return !vmsg_read_status(dev, &status) && !status;
}

static int vmsg_write_status(struct vmsg_device *dev, u8 wanted, u8 *status)
{
	struct vmsg_message request;

	vmsg_prepare(&request, 0, VMSG_SET_STATUS, dev->number,
		     sizeof(request.status));
	request.status.status = cpu_to_le32(wanted);
	return vmsg_status(dev, &request, status);
}

static u8 vmsg_get_status(struct virtio_device *vdev)
{
	u8 status;

	might_sleep();
	if (!vmsg_read_status(to_vmsg_device(vdev), &status) || !status)
		return status;
	return status | VIRTIO_CONFIG_S_NEEDS_RESET;
}

void vmsg_reset(struct virtio_device *vdev)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	unsigned long start = jiffies;
	u8 status;
	int err;

	might_sleep();
	err = vmsg_write_status(dev, 0, &status);
	while (!err && status) {
		if (time_after(jiffies,
			       start + vmsg_patience(VMSG_RESET_TIMEOUT))) {
			err = -ETIMEDOUT;
			break;
		}
		usleep_range(1000, 2000);
		err = vmsg_read_status(dev, &status);
	}
	if (err && err != -ENODEV)
		vmsg_err(dev, "reset failed: %d\n", err);
	if (READ_ONCE(dev->leaving))
		WRITE_ONCE(dev->gone, true);

	mutex_lock(&dev->lock);
	dev->status = 0;
	mutex_unlock(&dev->lock);
	/* The core resets a device before it adds it. */
	WRITE_ONCE(dev->core_ready, true);
	dev->ops->synchronize(dev);
}

static void vmsg_set_status(struct virtio_device *vdev, u8 wanted)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	u8 status;
	int err;

	might_sleep();
	if (!wanted) {
		vmsg_reset(vdev);
		return;
	}
	err = vmsg_write_status(dev, wanted, &status);
	if (!(wanted & VIRTIO_CONFIG_S_DRIVER_OK) ||
	    (!err && (status & VIRTIO_CONFIG_S_DRIVER_OK)))
		return;
	/* No I/O before the device reports DRIVER_OK (6.7). */
	virtio_break_device(vdev);
	/* Else it left in the meantime, and an event tells that; or it is silent. */
	if (!err && status)
		vmsg_err(dev, "does not start: status %#x\n", status);
}

/* --- Features. --- */

/*
 * What messages of revision 1 can't carry (O-34), and what this transport
 * doesn't do: administration queues, and to tell the position in EVENT_AVAIL,
 * which several of them may be merged into.
 */
#define VMSG_BIT_NOTIFICATION_DATA	38
#define VMSG_BIT_NOTIF_CONFIG_DATA	39
#define VMSG_BIT_ADMIN_VQ		41
#define VMSG_NOT_CARRIED	(BIT_ULL(VMSG_BIT_NOTIFICATION_DATA) | \
				 BIT_ULL(VMSG_BIT_NOTIF_CONFIG_DATA) | \
				 BIT_ULL(VMSG_BIT_ADMIN_VQ))

static u32 vmsg_feature_blocks(struct vmsg_device *dev)
{
	return min_t(u32, dev->feature_blocks,
		     sizeof_field(struct vmsg_features, words) / sizeof(u32));
}

static u64 vmsg_get_features(struct virtio_device *vdev)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	u32 i, blocks = vmsg_feature_blocks(dev);
	struct vmsg_message request, response;

	might_sleep();
	dev->offered = 0;
	vmsg_prepare(&request, 0, VMSG_GET_FEATURES, dev->number,
		     offsetof(struct vmsg_features, words));
	request.features.num_blocks = cpu_to_le32(blocks);
	if (vmsg_call(dev, &request, &response,
		      offsetof(struct vmsg_features, words) +
		      blocks * sizeof(__le32)))
		return 0;
	if (response.features.block_index ||
	    response.features.num_blocks != request.features.num_blocks)
		return 0;
	for (i = 0; i < blocks; i++)
		dev->offered |= (u64)le32_to_cpu(response.features.words[i]) <<
				32 * i;
	dev->offered &= ~VMSG_NOT_CARRIED;
	return dev->offered;
}

static int vmsg_finalize_features(struct virtio_device *vdev)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	u32 i, blocks = vmsg_feature_blocks(dev);
	struct vmsg_message request, response;

	might_sleep();
	vring_transport_features(vdev);
	vdev->features &= ~VMSG_NOT_CARRIED;
	/* Ours to accept, and not one of the ring's. */
	if (dev->offered & BIT_ULL(VIRTIO_F_RING_RESET))
		__virtio_set_bit(vdev, VIRTIO_F_RING_RESET);
	if (!__virtio_test_bit(vdev, VIRTIO_F_VERSION_1)) {
		/* It has left, or does not answer: no news for the core. */
		if (!dev->offered)
			return -ENODEV;
		vmsg_err(dev, "has no VIRTIO_F_VERSION_1\n");
		return -EINVAL;
	}

	vmsg_prepare(&request, 0, VMSG_SET_FEATURES, dev->number,
		     offsetof(struct vmsg_features, words) +
		     blocks * sizeof(__le32));
	request.features.num_blocks = cpu_to_le32(blocks);
	for (i = 0; i < blocks; i++)
		request.features.words[i] =
			cpu_to_le32((u32)(vdev->features >> 32 * i));
	return vmsg_call(dev, &request, &response, 0);
}

/* --- The rest of struct virtio_config_ops. --- */

static const char *vmsg_bus_name(struct virtio_device *vdev)
{
	return dev_name(vdev->dev.parent);
}

static void vmsg_synchronize_cbs(struct virtio_device *vdev)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);

	dev->ops->synchronize(dev);
}

static bool vmsg_get_shm_region(struct virtio_device *vdev,
				struct virtio_shm_region *region, u8 id)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	struct vmsg_message request, response;

	vmsg_prepare(&request, 0, VMSG_GET_SHM, dev->number,
		     sizeof(request.index));
	request.index.index = cpu_to_le32(id);
	if (vmsg_call(dev, &request, &response, sizeof(response.shm)) ||
	    le32_to_cpu(response.shm.index) != id || !response.shm.length)
		return false;
	region->addr = le32_to_cpu(response.shm.address);
	region->len = le32_to_cpu(response.shm.length);
	return true;
}

const struct virtio_config_ops vmsg_config_ops = {
	.get = vmsg_config_get,
	.set = vmsg_config_set,
	.generation = vmsg_config_generation,
	.get_status = vmsg_get_status,
	.set_status = vmsg_set_status,
	.reset = vmsg_reset,
	.find_vqs = vmsg_find_vqs,
	.del_vqs = vmsg_del_vqs,
	.synchronize_cbs = vmsg_synchronize_cbs,
	.get_features = vmsg_get_features,
	.finalize_features = vmsg_finalize_features,
	.bus_name = vmsg_bus_name,
	.get_shm_region = vmsg_get_shm_region,
	.disable_vq_and_reset = vmsg_vq_disable_and_reset,
	.enable_vq_after_reset = vmsg_vq_enable_after_reset,
};
