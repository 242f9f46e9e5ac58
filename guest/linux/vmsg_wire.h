/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * virtio-msg messages, transport revision 1, as they are on the wire.
 * Source: virtio-msg-messages, sections 2 to 5 and 7.
 */
#ifndef VMSG_WIRE_H
#define VMSG_WIRE_H

#include <linux/build_bug.h>
#include <linux/string.h>
#include <linux/types.h>

/*
 * The largest message of the buses that there are. What is larger in
 * revision 1 is configuration data and feature words, and these go in pieces.
 */
#define VMSG_MAX_BYTES		64
/* The largest fixed-size message; a bus with less is of no use (O-1). */
#define VMSG_MIN_BYTES		48

/* Header: type. The other bits are sent as 0 and ignored. */
#define VMSG_TYPE_RESPONSE	0x01
#define VMSG_TYPE_BUS		0x02
#define VMSG_TYPE_MASK		0x03

/* Header: msg_id of transport messages. */
#define VMSG_GET_DEVICE_INFO	0x02
#define VMSG_GET_FEATURES	0x03
#define VMSG_SET_FEATURES	0x04
#define VMSG_GET_CONFIG		0x05
#define VMSG_SET_CONFIG		0x06
#define VMSG_GET_STATUS		0x07
#define VMSG_SET_STATUS		0x08
#define VMSG_GET_VQUEUE		0x09
#define VMSG_SET_VQUEUE		0x0a
#define VMSG_RESET_VQUEUE	0x0b
#define VMSG_GET_SHM		0x0c
#define VMSG_EVENT_CONFIG	0x40
#define VMSG_EVENT_AVAIL	0x41
#define VMSG_EVENT_USED		0x42

/* Header: msg_id of bus messages. */
#define VMSG_BUS_GET_DEVICES	0x02
#define VMSG_BUS_PING		0x03
#define VMSG_BUS_EVENT_DEVICE	0x40

/* EVENT_DEVICE: state. */
#define VMSG_DEVICE_READY	1
#define VMSG_DEVICE_REMOVED	2

struct vmsg_header {
	u8	type;
	u8	msg_id;
	__le16	dev_num;
	__le16	token;
	__le16	msg_size;
} __packed;

#define VMSG_PAYLOAD_BYTES	(VMSG_MAX_BYTES - sizeof(struct vmsg_header))

struct vmsg_device_info {
	__le32	device_id;
	__le32	vendor_id;
	__le32	num_feature_bits;
	__le32	config_size;
	__le32	max_virtqueues;
	__le16	admin_vq_start;
	__le16	admin_vq_count;
} __packed;

struct vmsg_features {
	__le32	block_index;
	__le32	num_blocks;
	__le32	words[2];	/* as many as struct virtio_device has */
} __packed;

struct vmsg_get_config {
	__le32	offset;
	__le32	length;
} __packed;

#define VMSG_CONFIG_FIXED_BYTES	12
/* Answer to GET_CONFIG, SET_CONFIG and its answer. */
struct vmsg_config {
	__le32	generation;
	__le32	offset;
	__le32	length;
	u8	data[VMSG_PAYLOAD_BYTES - VMSG_CONFIG_FIXED_BYTES];
} __packed;

struct vmsg_status {
	__le32	status;
} __packed;

struct vmsg_index {
	__le32	index;
} __packed;

struct vmsg_vqueue_info {
	__le32	index;
	__le32	max_size;
	__le32	cur_size;
	__le32	reserved;
	__le64	desc_addr;
	__le64	driver_addr;
	__le64	device_addr;
} __packed;

struct vmsg_set_vqueue {
	__le32	index;
	__le32	reserved0;
	__le32	size;
	__le32	reserved1;
	__le64	desc_addr;
	__le64	driver_addr;
	__le64	device_addr;
} __packed;

struct vmsg_shm {
	__le32	index;
	__le32	length;
	__le32	address;
} __packed;

struct vmsg_event_config {
	__le32	status;
	__le32	generation;
	__le32	offset;
	__le32	length;
} __packed;

struct vmsg_event_avail {
	__le32	index;
	__le32	next_offset;
} __packed;

struct vmsg_get_devices {
	__le16	offset;
	__le16	count;
} __packed;

struct vmsg_devices {
	__le16	offset;
	__le16	count;
	__le16	next_offset;
	u8	bitmap[VMSG_PAYLOAD_BYTES - 6];
} __packed;

struct vmsg_ping {
	__le32	data;
} __packed;

struct vmsg_event_device {
	__le16	number;
	__le16	state;
} __packed;

/*
 * One message of any kind: header and payload, or words, for copying it.
 * Bytes behind header.msg_size are 0 in what is sent, and without a meaning in
 * what is received.
 */
struct vmsg_message {
	union {
		struct {
			struct vmsg_header header;
			union {
				struct vmsg_device_info device_info;
				struct vmsg_features features;
				struct vmsg_get_config get_config;
				struct vmsg_config config;
				struct vmsg_status status;
				struct vmsg_index index;
				struct vmsg_vqueue_info vqueue_info;
				struct vmsg_set_vqueue set_vqueue;
				struct vmsg_shm shm;
				struct vmsg_event_config event_config;
				struct vmsg_event_avail event_avail;
				struct vmsg_get_devices get_devices;
				struct vmsg_devices devices;
				struct vmsg_ping ping;
				struct vmsg_event_device event_device;
			};
		};
		u64 words[VMSG_MAX_BYTES / sizeof(u64)];
	};
};

static_assert(sizeof(struct vmsg_header) == 8);
static_assert(sizeof(struct vmsg_device_info) == 24);
static_assert(sizeof(struct vmsg_vqueue_info) == 40);
static_assert(sizeof(struct vmsg_set_vqueue) == 40);
static_assert(offsetof(struct vmsg_config, data) == VMSG_CONFIG_FIXED_BYTES);
static_assert(sizeof(struct vmsg_event_config) == 16);
static_assert(sizeof(struct vmsg_message) == VMSG_MAX_BYTES);

/**
 * vmsg_prepare() - start a message
 * @msg: to be overwritten
 * @type: VMSG_TYPE_*
 * @msg_id: the id
 * @dev_num: 0 for bus messages
 * @payload: size of the payload
 *
 * The token is 0, which is right for events; buses set it in requests.
 */
static inline void vmsg_prepare(struct vmsg_message *msg, u8 type, u8 msg_id,
				u16 dev_num, size_t payload)
{
	memset(msg, 0, sizeof(*msg));
	msg->header.type = type;
	msg->header.msg_id = msg_id;
	msg->header.dev_num = cpu_to_le16(dev_num);
	msg->header.msg_size = cpu_to_le16(sizeof(msg->header) + payload);
}

/**
 * vmsg_payload() - size of the payload of a message that was received
 * @msg: its msg_size has been checked to be 8 to VMSG_MAX_BYTES
 *
 * Return: bytes.
 */
static inline size_t vmsg_payload(const struct vmsg_message *msg)
{
	return le16_to_cpu(msg->header.msg_size) - sizeof(msg->header);
}

#endif /* VMSG_WIRE_H */
