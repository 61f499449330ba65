// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of the PCI device. Those that tell about the machine's security have the names and the
 * contents of the C driver's, for fwupd and others; sev_reset and sev_update_firmware are ours.
 */

#include <linux/device.h>
#include <linux/sysfs.h>

#include "shim.h"

#define SECURITY_ATTR(_name, _bit)					\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	int value = ccp_sev_security_bit(dev, _bit);			\
									\
	return value < 0 ? value : sysfs_emit(buf, "%d\n", value);	\
}									\
static DEVICE_ATTR_RO(_name)

/* Bits of the capability register (union psp_cap_register). */
SECURITY_ATTR(fused_part, 8);
SECURITY_ATTR(boot_integrity, 9);
SECURITY_ATTR(debug_lock_on, 10);
SECURITY_ATTR(tsme_status, 13);
SECURITY_ATTR(anti_rollback_status, 15);
SECURITY_ATTR(rpmc_production_enabled, 16);
SECURITY_ATTR(rpmc_spirom_available, 17);
SECURITY_ATTR(hsp_tpm_available, 18);
SECURITY_ATTR(rom_armor_enforced, 19);

static struct attribute *security_attrs[] = {
	&dev_attr_fused_part.attr,
	&dev_attr_boot_integrity.attr,
	&dev_attr_debug_lock_on.attr,
	&dev_attr_tsme_status.attr,
	&dev_attr_anti_rollback_status.attr,
	&dev_attr_rpmc_production_enabled.attr,
	&dev_attr_rpmc_spirom_available.attr,
	&dev_attr_hsp_tpm_available.attr,
	&dev_attr_rom_armor_enforced.attr,
	NULL
};

static const struct attribute_group security_group = {
	.attrs = security_attrs,
};

static ssize_t bootloader_version_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u8 version[4];
	int ret = ccp_sev_bootloader_version(dev, version);

	return ret ? ret : sysfs_emit(buf, "%02x.%02x.%02x.%02x\n", version[0], version[1],
				      version[2], version[3]);
}
static DEVICE_ATTR_RO(bootloader_version);

static struct attribute *version_attrs[] = {
	&dev_attr_bootloader_version.attr,
	NULL
};

static const struct attribute_group version_group = {
	.attrs = version_attrs,
};

/* Both take the word 1, so that nothing happens to whoever tries what a file does. */
static ssize_t request(struct device *dev, const char *buf, size_t len, int (*serve)(struct device *))
{
	bool yes;
	int ret;

	ret = kstrtobool(buf, &yes);
	if (ret)
		return ret;
	if (!yes)
		return -EINVAL;
	ret = serve(dev);
	return ret ? ret : len;
}

static ssize_t sev_reset_store(struct device *dev, struct device_attribute *attr, const char *buf,
			       size_t len)
{
	return request(dev, buf, len, ccp_sev_reset);
}
static DEVICE_ATTR_WO(sev_reset);

static ssize_t sev_update_firmware_store(struct device *dev, struct device_attribute *attr,
					 const char *buf, size_t len)
{
	return request(dev, buf, len, ccp_sev_update_firmware);
}
static DEVICE_ATTR_WO(sev_update_firmware);

static struct attribute *request_attrs[] = {
	&dev_attr_sev_reset.attr,
	&dev_attr_sev_update_firmware.attr,
	NULL
};

static const struct attribute_group request_group = {
	.attrs = request_attrs,
};

/* They go when the device is unbound. */
int ccp_sev_add_attributes(struct device *dev, bool security, bool bootloader)
{
	int ret;

	ret = devm_device_add_group(dev, &request_group);
	if (!ret && security)
		ret = devm_device_add_group(dev, &security_group);
	if (!ret && bootloader)
		ret = devm_device_add_group(dev, &version_group);
	return ret;
}
