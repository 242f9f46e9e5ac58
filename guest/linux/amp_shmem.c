// SPDX-License-Identifier: GPL-2.0-only
/*
 * A FIFO of layout shmem-v1: its header says where the queues are, and both
 * sides begin by a handshake. Source: amp-pci-device, 3.2. Models:
 * tests/model/handshake.pml, and queue.pml for the queues.
 */
#include <asm/barrier.h>
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/log2.h>

#include "amp_fifo.h"

/* The region is a part of the window; all offsets count from its start. */
#define AMP_SHMEM_REGION	0x1000
#define AMP_SHMEM_REGION_BYTES	0x2000

#define AMP_SHMEM_MAGIC		0x4c4f
#define AMP_SHMEM_VERSION	1
#define AMP_SHMEM_FEATURE_MASK	BIT(0)
#define AMP_SHMEM_MAX_NOTIFS	64

struct amp_shmem_side {
	__le64 notif_offset;
	__le64 head_offset;
	__le64 elements_offset;
};

/* Written by the device, magic last. */
struct amp_shmem_header {
	__le16 magic;
	__le16 length;
	__le16 version;
	__le16 features;
	u8 num_notif;			/* words in each direction */
	u8 num_vq_notif_per_device;
	__le16 num_queue_elements;
	__le16 size_queue_elements;
	__le16 reserved;
	struct amp_shmem_side device;
	struct amp_shmem_side driver;
};

static_assert(offsetof(struct amp_shmem_header, num_queue_elements) == 10);
static_assert(offsetof(struct amp_shmem_header, driver) == 40);
static_assert(sizeof(struct amp_shmem_header) == 64);

#define AMP_SHMEM_HEAD_MAGIC	0x514f

/* A queue head. Each side writes to its own. */
struct amp_shmem_head {
	__le16 magic;
	__le16 status;
	__le16 tail;	/* next element that this side will write */
	__le16 head;	/* next element that this side will read */
};

static_assert(sizeof(struct amp_shmem_head) == 8);

/* status */
#define AMP_SHMEM_STATE_MASK	0x1f
#define AMP_SHMEM_INIT		0
#define AMP_SHMEM_READY		1
#define AMP_SHMEM_RUN		2
#define AMP_SHMEM_SHUTDOWN	3

/* --- The header. --- */

struct amp_range {
	u64 offset;
	u64 bytes;
};

static bool amp_range_inside(const struct amp_range *range)
{
	return range->offset <= AMP_SHMEM_REGION_BYTES &&
	       range->bytes <= AMP_SHMEM_REGION_BYTES - range->offset;
}

/* Both are inside. */
static bool amp_ranges_overlap(const struct amp_range *a,
			       const struct amp_range *b)
{
	return a->offset < b->offset + b->bytes &&
	       b->offset < a->offset + a->bytes;
}

static const char *amp_check_fields(const struct amp_shmem_header *header)
{
	if (le16_to_cpu(header->length) != sizeof(*header))
		return "header: a length other than 64";
	if (le16_to_cpu(header->version) != AMP_SHMEM_VERSION)
		return "header: a version other than 1";
	if (le16_to_cpu(header->features) & ~AMP_SHMEM_FEATURE_MASK)
		return "header: an unknown feature";
	if (header->reserved)
		return "header: something in the reserved field";
	if (header->num_notif > AMP_SHMEM_MAX_NOTIFS)
		return "header: more than 64 notification words";
	if (header->num_notif && (header->num_vq_notif_per_device > 16 ||
				  !is_power_of_2(header->num_vq_notif_per_device)))
		return "header: a wrong number of notification bits per device";
	if (le16_to_cpu(header->num_queue_elements) < 2)
		return "header: queues of less than 2 elements";
	if (!header->size_queue_elements)
		return "header: elements of size 0";
	return NULL;
}

static const char *amp_check_notif(const struct amp_range *range)
{
	if (!range->offset)
		return "header: a notification area without an offset";
	if (!IS_ALIGNED(range->offset, sizeof(u64)))
		return "header: a notification area that is not aligned";
	if (!amp_range_inside(range))
		return "header: a notification area outside of the region";
	return NULL;
}

static const char *amp_check_head(const struct amp_range *range)
{
	if (!range->offset)
		return "header: a queue head without an offset";
	if (!IS_ALIGNED(range->offset, sizeof(u16)))
		return "header: a queue head that is not aligned";
	if (!amp_range_inside(range))
		return "header: a queue head outside of the region";
	return NULL;
}

static const char *amp_check_elements(const struct amp_range *range)
{
	if (!range->offset)
		return "header: elements without an offset";
	if (!amp_range_inside(range))
		return "header: elements outside of the region";
	return NULL;
}

static const char *amp_check_ranges(const struct amp_shmem_header *header)
{
	/* tx and rx, and mask where there is one. */
	u64 notif_bytes = header->num_notif * sizeof(u64) *
			  (header->features ? 3 : 2);
	u64 elements_bytes = (u64)le16_to_cpu(header->num_queue_elements) *
			     le16_to_cpu(header->size_queue_elements);
	const struct amp_shmem_side *sides[] = {
		&header->device, &header->driver
	};
	struct amp_range ranges[1 + 3 * ARRAY_SIZE(sides)] = {
		{ 0, sizeof(*header) }
	};
	unsigned int count = 1, i, j;

	for (i = 0; i < ARRAY_SIZE(sides); i++) {
		struct amp_range notif = {
			le64_to_cpu(sides[i]->notif_offset), notif_bytes
		};
		struct amp_range head = {
			le64_to_cpu(sides[i]->head_offset),
			sizeof(struct amp_shmem_head)
		};
		struct amp_range elements = {
			le64_to_cpu(sides[i]->elements_offset), elements_bytes
		};
		const char *fault = NULL;

		if (header->num_notif) {
			fault = amp_check_notif(&notif);
			ranges[count++] = notif;
		}
		fault = fault ?: amp_check_head(&head) ?:
				 amp_check_elements(&elements);
		if (fault)
			return fault;
		ranges[count++] = head;
		ranges[count++] = elements;
	}
	for (i = 0; i < count; i++)
		for (j = 0; j < i; j++)
			if (amp_ranges_overlap(&ranges[i], &ranges[j]))
				return "header: parts that overlap";
	return NULL;
}

/* What is sound, and not for us. */
static const char *amp_check_usable(const struct amp_shmem_header *header)
{
	if (le16_to_cpu(header->size_queue_elements) != VMSG_MAX_BYTES)
		return "elements of another size than 64";
	if (header->num_notif)
		return "notification words, which this driver does not use";
	return NULL;
}

/**
 * amp_shmem_is_here() - whether a window has this layout
 * @window: of the FIFO
 *
 * What is read after this is complete, since the magic is stored last.
 */
bool amp_shmem_is_here(const void *window)
{
	const __le16 *magic = window + AMP_SHMEM_REGION;

	return le16_to_cpu(virt_load_acquire(magic)) == AMP_SHMEM_MAGIC;
}

/* --- States. --- */

static u16 amp_shmem_device_state(const struct amp_fifo *fifo)
{
	return le16_to_cpu(virt_load_acquire(&fifo->device_head->status)) &
	       AMP_SHMEM_STATE_MASK;
}

static void amp_shmem_show(struct amp_fifo *fifo, u16 state)
{
	virt_store_release(&fifo->own_head->status, cpu_to_le16(state));
}

static int amp_shmem_attach(struct amp_fifo *fifo)
{
	void *region = fifo->window + AMP_SHMEM_REGION;
	union {
		struct amp_shmem_header header;
		u64 words[sizeof(struct amp_shmem_header) / sizeof(u64)];
	} copy;
	const struct amp_shmem_header *header = &copy.header;
	const char *fault;
	unsigned int i;

	fifo->own_head = NULL;
	for (i = 0; i < ARRAY_SIZE(copy.words); i++)
		copy.words[i] = READ_ONCE(((const u64 *)region)[i]);
	fault = amp_check_fields(header) ?: amp_check_ranges(header) ?:
		amp_check_usable(header);
	if (fault)
		return amp_fifo_fail(fifo, fault);

	fifo->own_head = region + le64_to_cpu(header->driver.head_offset);
	fifo->device_head = region + le64_to_cpu(header->device.head_offset);
	fifo->ready = false;
	/* Both directions begin at 0. */
	fifo->tx = (struct amp_queue){
		.slots = region + le64_to_cpu(header->driver.elements_offset),
		.num_slots = le16_to_cpu(header->num_queue_elements),
		.own_index = &fifo->own_head->tail,
		.other_index = &fifo->device_head->head,
	};
	fifo->rx = (struct amp_queue){
		.slots = region + le64_to_cpu(header->device.elements_offset),
		.num_slots = le16_to_cpu(header->num_queue_elements),
		.own_index = &fifo->own_head->head,
		.other_index = &fifo->device_head->tail,
	};
	amp_shmem_show(fifo, AMP_SHMEM_INIT);
	virt_store_release(&fifo->own_head->magic,
			   cpu_to_le16(AMP_SHMEM_HEAD_MAGIC));
	return 0;
}

/*
 * A device that is in RUN is so with the driver before us. It takes notice of
 * our INIT, and clears its indices; before that we must not go on, or it would
 * never know that we are another.
 */
static int amp_shmem_join(struct amp_fifo *fifo)
{
	u16 state;

	if (le16_to_cpu(virt_load_acquire(&fifo->device_head->magic)) !=
	    AMP_SHMEM_HEAD_MAGIC)
		return -EAGAIN;
	state = amp_shmem_device_state(fifo);
	if (state > AMP_SHMEM_RUN)
		return amp_fifo_fail(fifo, "the device has shut down");
	if (!fifo->ready) {
		if (state == AMP_SHMEM_RUN)
			return -EAGAIN;
		WRITE_ONCE(fifo->own_head->tail, 0);
		WRITE_ONCE(fifo->own_head->head, 0);
		fifo->ready = true;
		amp_shmem_show(fifo, AMP_SHMEM_READY);
	}
	if (state == AMP_SHMEM_INIT)
		return -EAGAIN;
	amp_shmem_show(fifo, AMP_SHMEM_RUN);
	return 0;
}

static void amp_shmem_detach(struct amp_fifo *fifo)
{
	if (fifo->own_head)
		amp_shmem_show(fifo, AMP_SHMEM_SHUTDOWN);
	fifo->own_head = NULL;
}

/* --- Queues. --- */

static int amp_shmem_look(struct amp_fifo *fifo, struct amp_queue *queue)
{
	const __le16 *from = queue->other_index;
	/* The index first: a device that starts anew puts it back, and says so. */
	u16 index = le16_to_cpu(virt_load_acquire(from));

	switch (amp_shmem_device_state(fifo)) {
	case AMP_SHMEM_READY:
	case AMP_SHMEM_RUN:
		break;
	case AMP_SHMEM_INIT:
		return amp_fifo_fail(fifo, "the device has started anew");
	default:
		return amp_fifo_fail(fifo, "the device has shut down");
	}
	return amp_fifo_set_other(fifo, queue, index);
}

static void amp_shmem_publish(struct amp_queue *queue)
{
	__le16 *to = queue->own_index;

	virt_store_release(to, cpu_to_le16(queue->own));
}

const struct amp_fifo_ops amp_shmem_ops = {
	.attach = amp_shmem_attach,
	.join = amp_shmem_join,
	.detach = amp_shmem_detach,
	.look = amp_shmem_look,
	.publish = amp_shmem_publish,
	.watch = true,
};
