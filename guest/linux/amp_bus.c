// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bus on a FIFO: requests and their answers, events, PING.
 * Source: virtio-msg-messages, 2, 5.2 and 6; amp-pci-device, 4.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/io.h>

#include "amp.h"

/* So many packets are taken in interrupt context; the thread takes the rest. */
#define AMP_IRQ_BUDGET		64
#define AMP_THREAD_BUDGET	16

/* The device gives no sign when it has made room on the driver queue. */
#define AMP_MAX_FLUSH_DELAY	max(1UL, HZ / 20UL)

/* An answer is waited for so long at a time. */
#define AMP_WAIT_STEP		max(1L, HZ / 10L)

/* On the stack of who waits; in bus->waiting until it has an answer. */
struct amp_request {
	struct list_head node;
	struct vmsg_header header;	/* of the answer */
	struct vmsg_message *response;
	struct completion done;
	int result;
};

/* --- Sending. --- */

/* Any context. 0, -ENOSPC, -EIO (of no use: being taken down) or -ENODEV. */
static int amp_send(struct amp_bus *bus, const struct vmsg_message *msg)
{
	unsigned long flags;
	int err = -ENODEV;

	spin_lock_irqsave(&bus->tx_lock, flags);
	if (!bus->down) {
		err = amp_fifo_push(&bus->fifo, msg);
		/* For each packet. Orders the packet before it. */
		if (!err)
			writel(1, bus->doorbell);
	}
	spin_unlock_irqrestore(&bus->tx_lock, flags);
	if (err == -EIO)
		schedule_work(&bus->down_work);
	return err;
}

/* What a request that began at @start has left, in jiffies. */
static long amp_time_left(const struct amp_bus *bus, unsigned long start)
{
	return (long)(start + vmsg_patience(bus->timeout) - jiffies);
}

static int amp_send_request(struct amp_bus *bus, const struct vmsg_message *msg,
			    unsigned long start)
{
	int err;

	while ((err = amp_send(bus, msg)) == -ENOSPC) {
		if (amp_time_left(bus, start) < 0)
			return -ETIMEDOUT;
		usleep_range(500, 1500);
	}
	return err;
}

/* --- Requests. --- */

static bool amp_token_in_use(struct amp_bus *bus, __le16 token)
{
	struct amp_request *request;

	list_for_each_entry(request, &bus->waiting, node)
		if (request->header.token == token)
			return true;
	return false;
}

/* 0 is for events. There are never as many requests as there are tokens. */
static __le16 amp_next_token(struct amp_bus *bus)
{
	__le16 token;

	lockdep_assert_held(&bus->rx_lock);
	do {
		if (!++bus->last_token)
			++bus->last_token;
		token = cpu_to_le16(bus->last_token);
	} while (amp_token_in_use(bus, token));
	return token;
}

/* In steps, as the time that it has gets shorter when the system goes down. */
static int amp_await(struct amp_bus *bus, struct amp_request *request,
		     unsigned long start)
{
	long left;

	do {
		left = amp_time_left(bus, start);
		if (wait_for_completion_timeout(&request->done,
						clamp(left, 1L, AMP_WAIT_STEP)))
			return 0;
	} while (left > 0);
	return -ETIMEDOUT;
}

/**
 * amp_bus_call() - send a request and wait for its answer
 * @bus: that carries it
 * @request: without a token
 * @response: its type, msg_id, dev_num and token are right, its msg_size is
 *	possible; the rest is for the caller to check
 *
 * Return: 0; -ETIMEDOUT; -ENODEV or -EIO when the bus is down.
 */
int amp_bus_call(struct amp_bus *bus, const struct vmsg_message *request,
		 struct vmsg_message *response)
{
	unsigned long start = jiffies;
	struct vmsg_message msg = *request;
	struct amp_request wait = {
		.header = request->header,
		.response = response,
	};
	int err = 0;

	might_sleep();
	init_completion(&wait.done);
	wait.header.type |= VMSG_TYPE_RESPONSE;

	spin_lock_irq(&bus->rx_lock);
	if (bus->down) {
		spin_unlock_irq(&bus->rx_lock);
		return -ENODEV;
	}
	wait.header.token = amp_next_token(bus);
	list_add_tail(&wait.node, &bus->waiting);
	spin_unlock_irq(&bus->rx_lock);

	msg.header.token = wait.header.token;
	err = amp_send_request(bus, &msg, start);
	if (!err)
		err = amp_await(bus, &wait, start);

	/* An answer may still have come: it counts. */
	spin_lock_irq(&bus->rx_lock);
	if (list_empty(&wait.node))
		err = wait.result;
	else
		list_del(&wait.node);
	spin_unlock_irq(&bus->rx_lock);
	return err;
}

static void amp_finish(struct amp_request *request, int result)
{
	list_del_init(&request->node);
	request->result = result;
	complete(&request->done);
}

/**
 * amp_bus_end_requests() - no answer comes any more
 * @bus: its rx_lock is held; down
 */
void amp_bus_end_requests(struct amp_bus *bus)
{
	struct amp_request *request, *next;

	lockdep_assert_held(&bus->rx_lock);
	list_for_each_entry_safe(request, next, &bus->waiting, node)
		amp_finish(request, -ENODEV);
}

static void amp_handle_response(struct amp_bus *bus,
				const struct vmsg_message *msg)
{
	u8 type = msg->header.type & VMSG_TYPE_MASK;
	struct amp_request *request;

	list_for_each_entry(request, &bus->waiting, node) {
		const struct vmsg_header *wanted = &request->header;

		if (wanted->token == msg->header.token &&
		    wanted->type == type &&
		    wanted->msg_id == msg->header.msg_id &&
		    wanted->dev_num == msg->header.dev_num) {
			*request->response = *msg;
			amp_finish(request, 0);
			return;
		}
	}
	dev_dbg(bus->parent, "%s: an answer that nobody waits for\n",
		bus->name);
}

/* --- Receiving. --- */

static int amp_answer_ping(struct amp_bus *bus, const struct amp_ping *ping)
{
	struct vmsg_message msg;

	vmsg_prepare(&msg, VMSG_TYPE_BUS | VMSG_TYPE_RESPONSE, VMSG_BUS_PING,
		     0, sizeof(msg.ping));
	msg.header.token = ping->token;
	msg.ping.data = ping->data;
	return amp_send(bus, &msg);
}

static bool amp_answer_pings(struct amp_bus *bus)
{
	while (bus->num_pings) {
		if (amp_answer_ping(bus, &bus->pings[bus->num_pings - 1]) ==
		    -ENOSPC)
			return false;
		bus->num_pings--;
	}
	return true;
}

static void amp_handle_ping(struct amp_bus *bus,
			    const struct vmsg_message *msg)
{
	struct amp_ping ping = {
		.token = msg->header.token,
		.data = msg->ping.data,
	};

	if (amp_answer_ping(bus, &ping) == -ENOSPC &&
	    bus->num_pings < AMP_MAX_PINGS)
		bus->pings[bus->num_pings++] = ping;
}

static void amp_handle_bus_message(struct amp_bus *bus,
				   const struct vmsg_message *msg)
{
	size_t payload = vmsg_payload(msg);

	if (msg->header.dev_num)
		return;
	if (msg->header.msg_id == VMSG_BUS_PING &&
	    payload >= sizeof(msg->ping))
		amp_handle_ping(bus, msg);
	else if (msg->header.msg_id == VMSG_BUS_EVENT_DEVICE &&
		 payload >= sizeof(msg->event_device))
		amp_slot_event(bus, le16_to_cpu(msg->event_device.number),
			       le16_to_cpu(msg->event_device.state));
}

/* What is malformed or unknown is dropped (2.6). */
static void amp_handle(struct amp_bus *bus, const struct vmsg_message *msg)
{
	u16 size = le16_to_cpu(msg->header.msg_size);
	u16 number = le16_to_cpu(msg->header.dev_num);

	if (size < sizeof(msg->header) || size > VMSG_MAX_BYTES)
		return;
	if (msg->header.type & VMSG_TYPE_RESPONSE)
		amp_handle_response(bus, msg);
	else if (msg->header.type & VMSG_TYPE_BUS)
		amp_handle_bus_message(bus, msg);
	else if (number < AMP_SLOTS && bus->slots[number].dev)
		vmsg_device_event(bus->slots[number].dev, msg);
}

/* False when there is still no room for all that is owed. */
static bool amp_flush(struct amp_bus *bus)
{
	unsigned int number;

	lockdep_assert_held(&bus->rx_lock);
	if (!amp_answer_pings(bus))
		return false;
	if (!READ_ONCE(bus->flush))
		return true;
	for (number = 0; number < AMP_SLOTS; number++) {
		struct vmsg_device *dev = bus->slots[number].dev;

		/* Before vmsg_device_flush() looks at the queues. */
		if (!test_and_clear_bit(number, &bus->flush))
			continue;
		if (dev && !vmsg_device_flush(dev)) {
			set_bit(number, &bus->flush);
			return false;
		}
	}
	return true;
}

/* Any context, also with tx_lock or rx_lock held. */
static void amp_schedule_flush(struct amp_bus *bus)
{
	timer_reduce(&bus->flush_timer,
		     jiffies + READ_ONCE(bus->flush_delay));
}

/* Takes so many packets at most. True when there may be more. */
static bool amp_drain(struct amp_bus *bus, unsigned int budget)
{
	struct vmsg_message msg;
	unsigned long flags;
	int err = 0;

	spin_lock_irqsave(&bus->rx_lock, flags);
	while (budget && !bus->down) {
		err = amp_fifo_pop(&bus->fifo, &msg);
		if (err)
			break;
		amp_handle(bus, &msg);
		budget--;
	}
	if (err == -EIO) {
		amp_bus_fail(bus);
	} else if (!amp_flush(bus)) {
		amp_schedule_flush(bus);
	}
	spin_unlock_irqrestore(&bus->rx_lock, flags);
	return !budget;
}

/**
 * amp_bus_interrupt() - the device has put something on its queue
 * @irq: the vector
 * @data: the bus
 *
 * Return: IRQ_WAKE_THREAD when there is more than an interrupt may take.
 */
irqreturn_t amp_bus_interrupt(int irq, void *data)
{
	return amp_drain(data, AMP_IRQ_BUDGET) ? IRQ_WAKE_THREAD : IRQ_HANDLED;
}

/**
 * amp_bus_thread() - goes on where amp_bus_interrupt() gave up
 * @irq: the vector
 * @data: the bus
 *
 * Return: IRQ_HANDLED.
 */
irqreturn_t amp_bus_thread(int irq, void *data)
{
	while (amp_drain(data, AMP_THREAD_BUDGET))
		cond_resched();
	return IRQ_HANDLED;
}

/**
 * amp_flush_expired() - send what had no room
 * @timer: bus->flush_timer
 *
 * It needs no process to be scheduled: one may be waiting for the device.
 */
void amp_flush_expired(struct timer_list *timer)
{
	struct amp_bus *bus = container_of(timer, struct amp_bus, flush_timer);
	bool done;

	spin_lock_irq(&bus->rx_lock);
	done = bus->down || amp_flush(bus);
	WRITE_ONCE(bus->flush_delay,
		   done ? 1 : min(2 * bus->flush_delay, AMP_MAX_FLUSH_DELAY));
	spin_unlock_irq(&bus->rx_lock);
	if (!done)
		amp_schedule_flush(bus);
}

/* --- For devices. --- */

static int amp_op_request(struct vmsg_device *dev,
			  const struct vmsg_message *request,
			  struct vmsg_message *response)
{
	return amp_bus_call(dev->bus_data, request, response);
}

static int amp_op_event(struct vmsg_device *dev,
			const struct vmsg_message *msg)
{
	return amp_send(dev->bus_data, msg);
}

static void amp_op_flush_later(struct vmsg_device *dev)
{
	struct amp_bus *bus = dev->bus_data;

	set_bit(dev->number, &bus->flush);
	amp_schedule_flush(bus);
}

/* All that calls devices does so under the lock. */
static void amp_op_synchronize(struct vmsg_device *dev)
{
	struct amp_bus *bus = dev->bus_data;

	spin_lock_irq(&bus->rx_lock);
	spin_unlock_irq(&bus->rx_lock);
}

const struct vmsg_bus_ops amp_bus_ops = {
	.request = amp_op_request,
	.event = amp_op_event,
	.flush_later = amp_op_flush_later,
	.synchronize = amp_op_synchronize,
};
