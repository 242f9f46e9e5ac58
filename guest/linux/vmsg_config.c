// SPDX-License-Identifier: GPL-2.0-only
/*
 * The configuration space, in messages.
 * Source: virtio-msg-messages, 4.4, 4.5, 4.12 and 6.5.
 */
#include <linux/minmax.h>

#include "vmsg_transport.h"

/* Bytes for one message. */
#define VMSG_CHUNK	sizeof_field(struct vmsg_config, data)

/*
 * So often a range is read again that changed meanwhile, or a write repeated
 * that came with an old generation. A device that changes faster is not waited
 * for.
 */
#define VMSG_TRIES	8

static bool vmsg_in_config(struct vmsg_device *dev, unsigned int offset,
			   unsigned int len)
{
	if (offset <= dev->config_size && len <= dev->config_size - offset)
		return true;
	dev_warn_once(&dev->vdev.dev,
		      "driver uses %u bytes at %u of a configuration of %u\n",
		      len, offset, dev->config_size);
	return false;
}

static int vmsg_read_chunk(struct vmsg_device *dev, u32 offset, void *buf,
			   u32 len, u32 *generation)
{
	struct vmsg_message request, response;
	int err;

	vmsg_prepare(&request, 0, VMSG_GET_CONFIG, dev->number,
		     sizeof(request.get_config));
	request.get_config.offset = cpu_to_le32(offset);
	request.get_config.length = cpu_to_le32(len);
	err = vmsg_call(dev, &request, &response,
			VMSG_CONFIG_FIXED_BYTES + len);
	/* A device that refuses the range answers without data. */
	if (err)
		return err;
	if (le32_to_cpu(response.config.offset) != offset ||
	    le32_to_cpu(response.config.length) != len)
		return -EPROTO;
	*generation = le32_to_cpu(response.config.generation);
	memcpy(buf, response.config.data, len);
	return 0;
}

/* Chunks of different generations don't belong together: -EAGAIN. */
static int vmsg_read_range(struct vmsg_device *dev, u32 offset, u8 *buf,
			   u32 len)
{
	u32 first = 0, at;
	int err;

	for (at = 0; at < len; at += VMSG_CHUNK) {
		u32 generation;

		err = vmsg_read_chunk(dev, offset + at, buf + at,
				      min_t(u32, len - at, VMSG_CHUNK),
				      &generation);
		if (err)
			return err;
		WRITE_ONCE(dev->generation, generation);
		if (at == 0)
			first = generation;
		else if (generation != first)
			return -EAGAIN;
	}
	return 0;
}

void vmsg_config_get(struct virtio_device *vdev, unsigned int offset,
		     void *buf, unsigned int len)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	int tries, err = -EINVAL;

	might_sleep();
	if (vmsg_in_config(dev, offset, len)) {
		mutex_lock(&dev->config_lock);
		for (tries = 0; tries < VMSG_TRIES; tries++) {
			err = vmsg_read_range(dev, offset, buf, len);
			if (err != -EAGAIN)
				break;
		}
		mutex_unlock(&dev->config_lock);
	}
	if (err)
		memset(buf, 0, len);
}

/* -ESTALE: the generation that we know is not that of the device. */
static int vmsg_write_chunk(struct vmsg_device *dev, u32 offset,
			    const void *buf, u32 len)
{
	u32 generation = READ_ONCE(dev->generation);
	struct vmsg_message request, response;
	int err;

	vmsg_prepare(&request, 0, VMSG_SET_CONFIG, dev->number,
		     VMSG_CONFIG_FIXED_BYTES + len);
	request.config.generation = cpu_to_le32(generation);
	request.config.offset = cpu_to_le32(offset);
	request.config.length = cpu_to_le32(len);
	memcpy(request.config.data, buf, len);
	err = vmsg_call(dev, &request, &response, VMSG_CONFIG_FIXED_BYTES);
	if (err)
		return err;
	if (le32_to_cpu(response.config.offset) != offset)
		return -EPROTO;
	WRITE_ONCE(dev->generation, le32_to_cpu(response.config.generation));
	if (le32_to_cpu(response.config.length) == len)
		return 0;
	/* A refusal gives no reason; 4.5 tells how to find out. */
	return le32_to_cpu(response.config.generation) != generation ?
		-ESTALE : -EINVAL;
}

static int vmsg_write_retry(struct vmsg_device *dev, u32 offset,
			    const void *buf, u32 len)
{
	u8 unused[VMSG_CHUNK];
	int tries, err = 0;

	for (tries = 0; tries < VMSG_TRIES; tries++) {
		err = vmsg_write_chunk(dev, offset, buf, len);
		if (err != -ESTALE)
			break;
		/* The rule is to look at what one is about to change. */
		err = vmsg_read_range(dev, offset, unused, len);
		if (err)
			break;
		err = -ESTALE;
	}
	return err;
}

void vmsg_config_set(struct virtio_device *vdev, unsigned int offset,
		     const void *buf, unsigned int len)
{
	struct vmsg_device *dev = to_vmsg_device(vdev);
	unsigned int at;
	int err = 0;

	might_sleep();
	if (!vmsg_in_config(dev, offset, len))
		return;
	mutex_lock(&dev->config_lock);
	for (at = 0; at < len && !err; at += VMSG_CHUNK)
		err = vmsg_write_retry(dev, offset + at, buf + at,
				       min_t(u32, len - at, VMSG_CHUNK));
	mutex_unlock(&dev->config_lock);
	if (err && err != -ENODEV)
		dev_warn_ratelimited(&vdev->dev,
				     "%u bytes of configuration at %u not written: %d\n",
				     len, offset, err);
}

/*
 * Readers of several fields compare the count before and after. Each read
 * brings the count along, so this needs no message.
 */
u32 vmsg_config_generation(struct virtio_device *vdev)
{
	return READ_ONCE(to_vmsg_device(vdev)->generation);
}

/* Called by vmsg_device_event(). The data is not used: drivers read it. */
void vmsg_config_event(struct vmsg_device *dev,
		       const struct vmsg_message *msg)
{
	if (vmsg_payload(msg) < sizeof(msg->event_config))
		return;
	WRITE_ONCE(dev->generation, le32_to_cpu(msg->event_config.generation));
	if (le32_to_cpu(msg->event_config.status) &
	    VIRTIO_CONFIG_S_NEEDS_RESET)
		dev_err_ratelimited(&dev->vdev.dev, "device needs a reset\n");
	virtio_config_changed(&dev->vdev);
}
