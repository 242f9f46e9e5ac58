/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A FIFO: two queues of packets in a window that we share with the device, in
 * one of two layouts. Source: amp-pci-device, 3.
 *
 * The window is memory that a thread of the host uses as well, so the barriers
 * are those for a virtual machine, which an UP kernel needs too. The device may
 * write anything there at any time.
 */
#ifndef VMSG_AMP_FIFO_H
#define VMSG_AMP_FIFO_H

#include "vmsg_wire.h"

#define AMP_WINDOW_BYTES	0x4000

struct amp_fifo;
struct amp_shmem_head;

/**
 * struct amp_queue - one direction of a FIFO
 * @slots: packets of VMSG_MAX_BYTES, in the window; not always aligned
 * @num_slots: so many; one of them stays empty
 * @own_index: where the device reads our index
 * @other_index: where it writes its own
 * @own: our index: what counts is this, not the one in the window
 * @other: the index of the device, as it was when it was last looked at; below
 *	@num_slots
 */
struct amp_queue {
	void *slots;
	u32 num_slots;
	void *own_index;
	const void *other_index;
	u32 own;
	u32 other;
};

/**
 * struct amp_fifo_ops - what the layouts differ in
 * @attach: Looks at the window, and begins. 0 or -EIO.
 * @join: Takes the steps of the handshake that are due; never waits. 0: both
 *	queues can be used; -EAGAIN: to be called again; or -EIO.
 * @detach: Tells the device that we have left; any number of times.
 * @look: Brings queue->other up to date. 0 or -EIO.
 * @publish: Shows queue->own to the device, after all that was done before.
 * @watch: A device may leave, and say so in the window only.
 *
 * -EIO: the FIFO is of no use, and amp_fifo.fault says why.
 */
struct amp_fifo_ops {
	int (*attach)(struct amp_fifo *fifo);
	int (*join)(struct amp_fifo *fifo);
	void (*detach)(struct amp_fifo *fifo);
	int (*look)(struct amp_fifo *fifo, struct amp_queue *queue);
	void (*publish)(struct amp_queue *queue);
	bool watch;
};

/**
 * struct amp_fifo - a FIFO
 * @window: AMP_WINDOW_BYTES
 * @ops: of the layout that the window had at amp_fifo_attach()
 * @fault: the last one, for the log; after -EIO
 * @tx: the driver queue
 * @rx: the device queue
 *
 * Layout shmem-v1:
 * @own_head: our queue head, or NULL
 * @device_head: that of the device
 * @ready: we have left INIT
 *
 * Not synchronized. @tx and @rx may be used in parallel.
 */
struct amp_fifo {
	void *window;
	const struct amp_fifo_ops *ops;
	const char *fault;
	struct amp_queue tx;
	struct amp_queue rx;

	struct amp_shmem_head *own_head;
	const struct amp_shmem_head *device_head;
	bool ready;
};

/* amp_fifo.c */
int amp_fifo_attach(struct amp_fifo *fifo);
int amp_fifo_join(struct amp_fifo *fifo);
void amp_fifo_detach(struct amp_fifo *fifo);
int amp_fifo_watch(struct amp_fifo *fifo);
int amp_fifo_push(struct amp_fifo *fifo, const struct vmsg_message *msg);
int amp_fifo_pop(struct amp_fifo *fifo, struct vmsg_message *msg);

/* For layouts: -EIO, for this reason. */
int amp_fifo_fail(struct amp_fifo *fifo, const char *fault);
int amp_fifo_set_other(struct amp_fifo *fifo, struct amp_queue *queue,
		       u32 index);

/* amp_spsc.c, amp_shmem.c */
extern const struct amp_fifo_ops amp_spsc_ops;
extern const struct amp_fifo_ops amp_shmem_ops;
bool amp_shmem_is_here(const void *window);

#endif /* VMSG_AMP_FIFO_H */
