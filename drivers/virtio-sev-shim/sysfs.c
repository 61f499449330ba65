// SPDX-License-Identifier: GPL-2.0
/*
 * The directory /sys/kernel/sev_guest: files with the names that sysfs.rs gives, whose contents it
 * writes.
 */

#include <linux/kobject.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "shim.h"

struct shim_attribute {
	struct kobj_attribute attr;
	unsigned int index;
};

static struct kobject *directory;
static struct shim_attribute *attributes;
static struct attribute **own_attrs;
static struct attribute **feature_attrs;

static struct attribute_group own_group;
static struct attribute_group feature_group = {
	.name = "features",
};

static ssize_t show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sev_shim_show(container_of(attr, struct shim_attribute, attr)->index, buf, PAGE_SIZE);
}

/* Which virtio devices have a driver and are not adopted. */
static ssize_t rebind_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sev_shim_list_bound(buf);
}

/* The name of one whose driver is to be bound again, so that it is. */
static ssize_t rebind_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			    size_t count)
{
	char *name = kstrndup(buf, count, GFP_KERNEL);
	int ret;

	if (!name)
		return -ENOMEM;
	ret = sev_shim_rebind(strim(name));
	kfree(name);
	return ret < 0 ? ret : count;
}

static struct kobj_attribute rebind = __ATTR_RW(rebind);

static void free_all(void)
{
	/* Waits for readers. */
	kobject_del(directory);
	kobject_put(directory);
	kfree(feature_attrs);
	kfree(own_attrs);
	kfree(attributes);
	directory = NULL;
}

/* The first @features names are files of the directory "features", the others beside it. */
int sev_shim_add_attributes(const char *const *names, unsigned int count, unsigned int features)
{
	int ret = -ENOMEM;
	unsigned int i;

	attributes = kcalloc(count, sizeof(*attributes), GFP_KERNEL);
	/* Both lists end with NULL; one file has no name in them. */
	feature_attrs = kcalloc(features + 1, sizeof(*feature_attrs), GFP_KERNEL);
	own_attrs = kcalloc(count - features + 2, sizeof(*own_attrs), GFP_KERNEL);
	directory = kobject_create_and_add("sev_guest", kernel_kobj);
	if (!attributes || !feature_attrs || !own_attrs || !directory)
		goto fail;
	for (i = 0; i < count; i++) {
		struct attribute *attr = &attributes[i].attr.attr;

		attributes[i].index = i;
		attributes[i].attr.show = show;
		sysfs_attr_init(attr);
		attr->name = names[i];
		attr->mode = 0444;
		if (i < features)
			feature_attrs[i] = attr;
		else
			own_attrs[i - features] = attr;
	}
	own_attrs[count - features] = &rebind.attr;
	feature_group.attrs = feature_attrs;
	own_group.attrs = own_attrs;
	ret = sysfs_create_group(directory, &own_group);
	if (!ret && features)
		ret = sysfs_create_group(directory, &feature_group);
	if (!ret)
		return 0;
fail:
	free_all();
	return ret;
}

/* Returns when nobody reads any of the files any more. */
void sev_shim_remove_attributes(void)
{
	free_all();
}

/* Wakes whoever polls the file. */
void sev_shim_notify(const char *name)
{
	if (directory)
		sysfs_notify(directory, NULL, name);
}
