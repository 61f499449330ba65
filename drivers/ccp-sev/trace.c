// SPDX-License-Identifier: GPL-2.0
/* Instantiates the trace events. */

#include "shim.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void ccp_sev_trace_command(const struct device *dev, const char *name, u16 id, int status, int errno,
			   u64 us)
{
	trace_sev_command(dev, name, id, status, errno, us);
}

bool ccp_sev_traces_commands(void)
{
	return trace_sev_command_enabled();
}
