/* SPDX-License-Identifier: GPL-2.0 */
/* Trace events: /sys/kernel/tracing/events/ccp_sev. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ccp_sev

#if !defined(CCP_SEV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define CCP_SEV_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

/* A firmware command that is over; status is -1 if the firmware gave none. */
TRACE_EVENT(sev_command,
	    TP_PROTO(const struct device *dev, const char *name, u16 id, int status, int errno,
		     u64 us),
	    TP_ARGS(dev, name, id, status, errno, us),
	    TP_STRUCT__entry(__string(dev, dev_name(dev))
			     __string(name, name)
			     __field(u16, id)
			     __field(int, status)
			     __field(int, errno)
			     __field(u64, us)),
	    TP_fast_assign(__assign_str(dev);
			   __assign_str(name);
			   __entry->id = id;
			   __entry->status = status;
			   __entry->errno = errno;
			   __entry->us = us;),
	    TP_printk("%s %s id=%#x status=%#x rc=%d us=%llu", __get_str(dev), __get_str(name),
		      __entry->id, __entry->status, __entry->errno, __entry->us)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
