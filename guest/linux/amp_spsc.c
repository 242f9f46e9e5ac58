// SPDX-License-Identifier: GPL-2.0-only
/*
 * A FIFO of layout spsc: two queues of 61 packets, which are never cleared while
 * the function is in use. Source: amp-pci-device, 3.1. Model: tests/model/queue.pml.
 */
#include <asm/barrier.h>

#include "amp_fifo.h"

#define AMP_SPSC_SLOTS		62
#define AMP_SPSC_DRIVER_QUEUE	0x1000
#define AMP_SPSC_DEVICE_QUEUE	0x2000

struct amp_spsc_page {
	__le32 head;	/* next packet to write; stored by the producer */
	u8 pad0[60];
	__le32 tail;	/* next packet to read; stored by the consumer */
	u8 pad1[60];
	u8 packets[AMP_SPSC_SLOTS][VMSG_MAX_BYTES];
};

static_assert(offsetof(struct amp_spsc_page, tail) == 0x40);
static_assert(offsetof(struct amp_spsc_page, packets) == 0x80);
static_assert(sizeof(struct amp_spsc_page) == 0x1000);

static int amp_spsc_look(struct amp_fifo *fifo, struct amp_queue *queue)
{
	const __le32 *from = queue->other_index;

	return amp_fifo_set_other(fifo, queue,
				  le32_to_cpu(virt_load_acquire(from)));
}

static void amp_spsc_publish(struct amp_queue *queue)
{
	__le32 *to = queue->own_index;

	virt_store_release(to, cpu_to_le32(queue->own));
}

/*
 * Goes on where the indices are. What is on the device queue was for a driver
 * before us, and is skipped: answers to its requests, and events that an
 * enumeration makes up for.
 */
static int amp_spsc_attach(struct amp_fifo *fifo)
{
	struct amp_spsc_page *tx = fifo->window + AMP_SPSC_DRIVER_QUEUE;
	struct amp_spsc_page *rx = fifo->window + AMP_SPSC_DEVICE_QUEUE;
	int err;

	fifo->tx = (struct amp_queue){
		.slots = tx->packets,
		.num_slots = AMP_SPSC_SLOTS,
		.own_index = &tx->head,
		.other_index = &tx->tail,
		.own = le32_to_cpu(READ_ONCE(tx->head)),
	};
	fifo->rx = (struct amp_queue){
		.slots = rx->packets,
		.num_slots = AMP_SPSC_SLOTS,
		.own_index = &rx->tail,
		.other_index = &rx->head,
	};
	if (fifo->tx.own >= AMP_SPSC_SLOTS)
		return amp_fifo_fail(fifo, "an index is out of range");
	err = amp_spsc_look(fifo, &fifo->tx) ?: amp_spsc_look(fifo, &fifo->rx);
	if (err)
		return err;
	fifo->rx.own = fifo->rx.other;
	amp_spsc_publish(&fifo->rx);
	return 0;
}

/* Nobody waits for anybody. */
static int amp_spsc_join(struct amp_fifo *fifo)
{
	return 0;
}

/* And nobody sees that we leave, but by bus mastering. */
static void amp_spsc_detach(struct amp_fifo *fifo)
{
}

const struct amp_fifo_ops amp_spsc_ops = {
	.attach = amp_spsc_attach,
	.join = amp_spsc_join,
	.detach = amp_spsc_detach,
	.look = amp_spsc_look,
	.publish = amp_spsc_publish,
};
