// SPDX-License-Identifier: GPL-2.0-only
/*
 * A FIFO of layout spsc: two queues of 61 packets. Source: amp-pci-device, 3.1.
 *
 * The window is memory that a thread of the host uses as well, so the barriers
 * are those for a virtual machine, which an UP kernel needs too.
 */
#include <asm/barrier.h>
#include <linux/errno.h>

#include "amp.h"

#define AMP_SPSC_SLOTS		62
#define AMP_SPSC_DRIVER_QUEUE	0x1000
#define AMP_SPSC_DEVICE_QUEUE	0x2000

struct amp_spsc_page {
	__le32 head;	/* next packet to write; stored by the producer */
	u8 pad0[60];
	__le32 tail;	/* next packet to read; stored by the consumer */
	u8 pad1[60];
	u64 packets[AMP_SPSC_SLOTS][VMSG_MAX_BYTES / sizeof(u64)];
};

static_assert(offsetof(struct amp_spsc_page, tail) == 0x40);
static_assert(offsetof(struct amp_spsc_page, packets) == 0x80);
static_assert(sizeof(struct amp_spsc_page) == 0x1000);

static u32 amp_spsc_next(u32 index)
{
	return index + 1 == AMP_SPSC_SLOTS ? 0 : index + 1;
}

/* An index of the device: looked at once, and it may be anything. */
static int amp_spsc_load(const __le32 *from, u32 *index)
{
	*index = le32_to_cpu(virt_load_acquire(from));
	return *index < AMP_SPSC_SLOTS ? 0 : -EIO;
}

/**
 * amp_spsc_attach_driver_queue() - begin to produce
 * @queue: to be set up
 * @window: of the FIFO
 *
 * Goes on where the indices are: nobody clears them but a function reset.
 *
 * Return: 0, or -EIO: an index is out of range.
 */
int amp_spsc_attach_driver_queue(struct amp_queue *queue, void *window)
{
	queue->page = window + AMP_SPSC_DRIVER_QUEUE;
	return amp_spsc_load(&queue->page->head, &queue->own) ?:
	       amp_spsc_load(&queue->page->tail, &queue->other);
}

/**
 * amp_spsc_attach_device_queue() - begin to consume
 * @queue: to be set up
 * @window: of the FIFO
 *
 * What is there was for a driver before us, and is skipped: answers to its
 * requests, and events that an enumeration makes up for.
 *
 * Return: 0, or -EIO: an index is out of range.
 */
int amp_spsc_attach_device_queue(struct amp_queue *queue, void *window)
{
	int err;

	queue->page = window + AMP_SPSC_DEVICE_QUEUE;
	err = amp_spsc_load(&queue->page->tail, &queue->own) ?:
	      amp_spsc_load(&queue->page->head, &queue->other);
	if (err)
		return err;
	queue->own = queue->other;
	virt_store_release(&queue->page->tail, cpu_to_le32(queue->own));
	return 0;
}

/**
 * amp_spsc_push() - put a message on the driver queue
 * @queue: attached
 * @msg: with zeroes behind its end
 *
 * Return: 0; -ENOSPC when the queue is full; -EIO when it is broken.
 */
int amp_spsc_push(struct amp_queue *queue, const struct vmsg_message *msg)
{
	u32 next = amp_spsc_next(queue->own);
	u64 *packet = queue->page->packets[queue->own];
	unsigned int i;

	if (next == queue->other) {
		if (amp_spsc_load(&queue->page->tail, &queue->other))
			return -EIO;
		if (next == queue->other)
			return -ENOSPC;
	}
	for (i = 0; i < ARRAY_SIZE(msg->words); i++)
		WRITE_ONCE(packet[i], msg->words[i]);
	queue->own = next;
	virt_store_release(&queue->page->head, cpu_to_le32(next));
	return 0;
}

/**
 * amp_spsc_pop() - take a message off the device queue
 * @queue: attached
 * @msg: gets a copy; nothing in it has been checked
 *
 * Return: 0; -ENODATA when the queue is empty; -EIO when it is broken.
 */
int amp_spsc_pop(struct amp_queue *queue, struct vmsg_message *msg)
{
	const u64 *packet = queue->page->packets[queue->own];
	unsigned int i;

	if (queue->own == queue->other) {
		if (amp_spsc_load(&queue->page->head, &queue->other))
			return -EIO;
		if (queue->own == queue->other)
			return -ENODATA;
	}
	for (i = 0; i < ARRAY_SIZE(msg->words); i++)
		msg->words[i] = READ_ONCE(packet[i]);
	queue->own = amp_spsc_next(queue->own);
	/* The packet was read before the device may write it again. */
	virt_store_release(&queue->page->tail, cpu_to_le32(queue->own));
	return 0;
}
