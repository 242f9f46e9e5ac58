/* SPDX-License-Identifier: GPL-2.0-only */
/* Inside of virtio_msg. */
#ifndef VMSG_TRANSPORT_H
#define VMSG_TRANSPORT_H

#include <linux/device.h>

#include "virtio_msg.h"
#include "vmsg_compat.h"

/* Before vdev.dev has a name, too. */
#define vmsg_err(dev, fmt, ...) \
	dev_err_ratelimited((dev)->vdev.dev.parent, "%s device %u: " fmt, \
			    (dev)->bus_name, (dev)->number, ##__VA_ARGS__)

#define to_vmsg_device(v) container_of(v, struct vmsg_device, vdev)

/* vmsg_ops.c */
extern const struct virtio_config_ops vmsg_config_ops;
void vmsg_reset(struct virtio_device *vdev);

/*
 * Send a request and wait. The answer has at least min_payload bytes of
 * payload. -ENODEV: gone; -EIO: the device is silent; -EPROTO: a short answer;
 * or an error of vmsg_bus_ops.request().
 */
int vmsg_call(struct vmsg_device *dev, const struct vmsg_message *request,
	      struct vmsg_message *response, size_t min_payload);

/*
 * Whether a device that its driver has begun to use is not there any more. Its
 * number is answered for, with zeroes, so that each answer looks like a poor
 * device. Sleeps.
 */
bool vmsg_has_left(struct vmsg_device *dev);

/* vmsg_config.c: of struct virtio_config_ops */
void vmsg_config_get(struct virtio_device *vdev, unsigned int offset,
		     void *buf, unsigned int len);
void vmsg_config_set(struct virtio_device *vdev, unsigned int offset,
		     const void *buf, unsigned int len);
u32 vmsg_config_generation(struct virtio_device *vdev);
void vmsg_config_event(struct vmsg_device *dev,
		       const struct vmsg_message *msg);

/* vmsg_queue.c: of struct virtio_config_ops */
int vmsg_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
		  struct virtqueue *vqs[], VMSG_FIND_VQS_ARGS);
void vmsg_del_vqs(struct virtio_device *vdev);
int vmsg_vq_disable_and_reset(struct virtqueue *vq);
int vmsg_vq_enable_after_reset(struct virtqueue *vq);
void vmsg_queue_used(struct vmsg_device *dev, const struct vmsg_message *msg);

#endif /* VMSG_TRANSPORT_H */
