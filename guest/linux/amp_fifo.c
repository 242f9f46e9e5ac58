// SPDX-License-Identifier: GPL-2.0-only
/*
 * What FIFOs of all layouts have in common.
 */
#include <linux/align.h>
#include <linux/compiler.h>
#include <linux/errno.h>

#include "amp_fifo.h"

static u32 amp_next(const struct amp_queue *queue)
{
	return queue->own + 1 == queue->num_slots ? 0 : queue->own + 1;
}

static void *amp_own_slot(const struct amp_queue *queue)
{
	return queue->slots + (size_t)queue->own * VMSG_MAX_BYTES;
}

/* Each byte is stored or loaded once. */
static void amp_store_packet(void *slot, const struct vmsg_message *msg)
{
	unsigned int i;

	if (IS_ALIGNED((unsigned long)slot, sizeof(u64))) {
		for (i = 0; i < ARRAY_SIZE(msg->words); i++)
			WRITE_ONCE(((u64 *)slot)[i], msg->words[i]);
	} else {
		for (i = 0; i < sizeof(*msg); i++)
			WRITE_ONCE(((u8 *)slot)[i], ((const u8 *)msg)[i]);
	}
}

static void amp_load_packet(const void *slot, struct vmsg_message *msg)
{
	unsigned int i;

	if (IS_ALIGNED((unsigned long)slot, sizeof(u64))) {
		for (i = 0; i < ARRAY_SIZE(msg->words); i++)
			msg->words[i] = READ_ONCE(((const u64 *)slot)[i]);
	} else {
		for (i = 0; i < sizeof(*msg); i++)
			((u8 *)msg)[i] = READ_ONCE(((const u8 *)slot)[i]);
	}
}

int amp_fifo_fail(struct amp_fifo *fifo, const char *fault)
{
	/* Both directions may fail at once: either reason will do. */
	WRITE_ONCE(fifo->fault, fault);
	return -EIO;
}

/* An index of the device, loaded once, and of any value. */
int amp_fifo_set_other(struct amp_fifo *fifo, struct amp_queue *queue,
		       u32 index)
{
	if (index >= queue->num_slots)
		return amp_fifo_fail(fifo, "an index is out of range");
	queue->other = index;
	return 0;
}

/**
 * amp_fifo_attach() - begin to use a FIFO
 * @fifo: with its window; never attached, or detached
 *
 * The window tells its layout: one of layout spsc has an index, below 62, where
 * one of layout shmem-v1 has a magic number.
 *
 * Return: 0: go on with amp_fifo_join(); or -EIO.
 */
int amp_fifo_attach(struct amp_fifo *fifo)
{
	fifo->ops = amp_shmem_is_here(fifo->window) ? &amp_shmem_ops :
						      &amp_spsc_ops;
	return fifo->ops->attach(fifo);
}

/**
 * amp_fifo_join() - see whether the device has joined as well
 * @fifo: attached
 *
 * Return: 0: it has; -EAGAIN: not yet, ring the doorbell and look again; -EIO.
 */
int amp_fifo_join(struct amp_fifo *fifo)
{
	return fifo->ops->join(fifo);
}

/**
 * amp_fifo_detach() - tell the device that we leave
 * @fifo: in any state
 */
void amp_fifo_detach(struct amp_fifo *fifo)
{
	if (fifo->ops)
		fifo->ops->detach(fifo);
}

/**
 * amp_fifo_watch() - look whether the device is still there
 * @fifo: joined; nobody pops
 *
 * Return: 0 or -EIO.
 */
int amp_fifo_watch(struct amp_fifo *fifo)
{
	return fifo->ops->look(fifo, &fifo->rx);
}

/**
 * amp_fifo_push() - put a message on the driver queue
 * @fifo: joined
 * @msg: with zeroes behind its end
 *
 * Looks at the device each time: the doorbell that follows costs far more, and
 * a message to a device that has left would be waited for.
 *
 * Return: 0; -ENOSPC when the queue is full; -EIO.
 */
int amp_fifo_push(struct amp_fifo *fifo, const struct vmsg_message *msg)
{
	struct amp_queue *queue = &fifo->tx;
	u32 next = amp_next(queue);
	int err = fifo->ops->look(fifo, queue);

	if (err)
		return err;
	if (next == queue->other)
		return -ENOSPC;
	amp_store_packet(amp_own_slot(queue), msg);
	queue->own = next;
	fifo->ops->publish(queue);
	return 0;
}

/**
 * amp_fifo_pop() - take a message off the device queue
 * @fifo: joined
 * @msg: gets a copy; nothing in it has been checked
 *
 * Return: 0; -ENODATA when the queue is empty; -EIO.
 */
int amp_fifo_pop(struct amp_fifo *fifo, struct vmsg_message *msg)
{
	struct amp_queue *queue = &fifo->rx;

	if (queue->own == queue->other) {
		int err = fifo->ops->look(fifo, queue);

		if (err)
			return err;
		if (queue->own == queue->other)
			return -ENODATA;
	}
	amp_load_packet(amp_own_slot(queue), msg);
	queue->own = amp_next(queue);
	/* The packet was read before the device may write it again. */
	fifo->ops->publish(queue);
	return 0;
}
