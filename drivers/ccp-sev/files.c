// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and replaces a small file as root, in the mount namespace of the first process: whoever the
 * caller is, and whatever it sees.
 */

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "shim.h"

/* Where a file is or will be, symbolic links followed. */
struct place {
	struct path dir;
	char *name;
};

static void put_place(struct place *place)
{
	path_put(&place->dir);
	kfree(place->name);
}

/* The place of a file that does not exist: its directory, and the last part of its name. */
static int find_new_place(const char *path, struct place *place)
{
	const char *name = kbasename(path);
	char *dir;
	int ret;

	if (!*name)
		return -EISDIR;
	/* A link to nowhere is somebody's plan; a file in its place would thwart it. */
	if (!kern_path(path, 0, &place->dir)) {
		path_put(&place->dir);
		return -ENOENT;
	}
	place->name = kstrdup(name, GFP_KERNEL);
	dir = name == path ? kstrdup(".", GFP_KERNEL) : kstrndup(path, name - path, GFP_KERNEL);
	ret = place->name && dir ? kern_path(dir, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &place->dir) :
				   -ENOMEM;
	if (ret)
		kfree(place->name);
	kfree(dir);
	return ret;
}

static int find_place(const char *path, struct place *place)
{
	struct name_snapshot name;
	struct path file;
	int ret;

	ret = kern_path(path, LOOKUP_FOLLOW, &file);
	if (ret == -ENOENT)
		return find_new_place(path, place);
	if (ret)
		return ret;
	if (!d_is_reg(file.dentry)) {
		path_put(&file);
		return -EINVAL;
	}
	take_dentry_name_snapshot(&name, file.dentry);
	place->name = kstrdup(name.name.name, GFP_KERNEL);
	release_dentry_name_snapshot(&name);
	place->dir.dentry = dget_parent(file.dentry);
	place->dir.mnt = mntget(file.mnt);
	path_put(&file);
	if (!place->name) {
		put_place(place);
		return -ENOMEM;
	}
	return 0;
}

static int rename_file(const struct path *dir, const char *from, const char *to)
{
	struct renamedata rd = {
		.mnt_idmap = mnt_idmap(dir->mnt),
		.old_parent = dir->dentry,
		.new_parent = dir->dentry,
	};
	int ret;

	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	ret = start_renaming(&rd, 0, &QSTR(from), &QSTR(to));
	if (!ret) {
		ret = vfs_rename(&rd);
		end_renaming(&rd);
	}
	mnt_drop_write(dir->mnt);
	return ret;
}

static void remove_file(const struct path *dir, const char *name)
{
	struct dentry *dentry;

	if (mnt_want_write(dir->mnt))
		return;
	dentry = start_removing(mnt_idmap(dir->mnt), dir->dentry, &QSTR(name));
	if (!IS_ERR(dentry)) {
		vfs_unlink(mnt_idmap(dir->mnt), d_inode(dir->dentry), dentry, NULL);
		end_removing(dentry);
	}
	mnt_drop_write(dir->mnt);
}

/*
 * Gives the file @from the name @to as well, which may be another file's before. Where there are no links it
 * has @to alone.
 */
static int keep_file(const struct path *dir, const char *from, const char *to)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);
	struct dentry *old, *new;
	int ret;

	old = lookup_one_unlocked(idmap, &QSTR(from), dir->dentry);
	if (IS_ERR(old))
		return PTR_ERR(old);
	if (d_is_negative(old)) {
		dput(old);
		return -ENOENT;
	}
	remove_file(dir, to);
	ret = mnt_want_write(dir->mnt);
	if (ret)
		goto put;
	new = start_creating(idmap, dir->dentry, &QSTR(to));
	ret = PTR_ERR_OR_ZERO(new);
	if (!ret) {
		ret = vfs_link(old, idmap, d_inode(dir->dentry), new, NULL);
		end_creating(new);
	}
	mnt_drop_write(dir->mnt);
put:
	dput(old);
	return ret ? rename_file(dir, from, to) : 0;
}

static int write_file(const struct path *dir, const char *name, const void *buf, size_t len)
{
	struct file *file;
	loff_t pos = 0;
	ssize_t written;
	int ret;

	file = file_open_root(dir, name, O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW, 0600);
	if (IS_ERR(file))
		return PTR_ERR(file);
	written = kernel_write(file, buf, len, &pos);
	if (written < 0)
		ret = written;
	else if (written != len)
		ret = -ENOSPC;
	else
		ret = vfs_fsync(file, 0);
	filp_close(file, NULL);
	return ret;
}

static int sync_dir(const struct path *dir)
{
	struct file *file = dentry_open(dir, O_RDONLY | O_DIRECTORY, current_cred());
	int ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = vfs_fsync(file, 0);
	filp_close(file, NULL);
	/* Some file systems have nothing to do for a directory, and say so. */
	return ret == -EINVAL ? 0 : ret;
}

static int replace_file(const char *path, const void *buf, size_t len, bool keep)
{
	char *new = NULL, *bad = NULL;
	struct place place;
	int ret;

	ret = find_place(path, &place);
	if (ret)
		return ret;
	new = kasprintf(GFP_KERNEL, "%s.new", place.name);
	bad = kasprintf(GFP_KERNEL, "%s.bad", place.name);
	ret = new && bad ? write_file(&place.dir, new, buf, len) : -ENOMEM;
	if (!ret && keep) {
		ret = keep_file(&place.dir, place.name, bad);
		/* There need not be a file to keep. */
		if (ret == -ENOENT)
			ret = 0;
	}
	if (!ret)
		ret = rename_file(&place.dir, new, place.name);
	if (!ret)
		ret = sync_dir(&place.dir);
	else if (new)
		remove_file(&place.dir, new);
	kfree(bad);
	kfree(new);
	put_place(&place);
	return ret;
}

static struct cred *root_cred(void)
{
	struct cred *cred = prepare_creds();

	if (cred)
		cred->fsuid = GLOBAL_ROOT_UID;
	return cred;
}

/*
 * One read returns less than there is when a later page cannot be read or the reader is being killed. That
 * must not be taken for a short file, which would be replaced.
 */
static s64 read_front(struct file *file, void *buf, size_t len)
{
	loff_t pos = 0, size;
	ssize_t bytes;

	if (!S_ISREG(file_inode(file)->i_mode))
		return S_ISDIR(file_inode(file)->i_mode) ? -EISDIR : -EINVAL;
	do {
		bytes = kernel_read(file, buf + pos, len - pos, &pos);
		if (bytes < 0)
			return bytes;
	} while (bytes && pos < len);
	size = i_size_read(file_inode(file));
	if (pos < len && pos < size)
		return fatal_signal_pending(current) ? -EINTR : -EIO;
	/* What was not read must not count. */
	return pos < len ? pos : max(size, pos);
}

/* Reads at most @len bytes; returns the length of the whole file. */
s64 ccp_sev_read_file(const char *path, void *buf, size_t len)
{
	struct cred *cred = root_cred();
	struct file *file;
	s64 ret;

	if (!cred)
		return -ENOMEM;
	scoped_with_init_fs() {
		scoped_with_creds(cred)
			file = filp_open(path, O_RDONLY, 0);
	}
	put_cred(cred);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = read_front(file, buf, len);
	filp_close(file, NULL);
	return ret;
}

/*
 * Makes @buf the contents of a file, or leaves the file alone. The contents go to NAME.new beside it,
 * which then takes its name; an old file that is to be kept is NAME.bad before, as well.
 */
int ccp_sev_replace_file(const char *path, const void *buf, size_t len, bool keep)
{
	struct cred *cred = root_cred();
	int ret;

	if (!cred)
		return -ENOMEM;
	scoped_with_init_fs() {
		scoped_with_creds(cred)
			ret = replace_file(path, buf, len, keep);
	}
	put_cred(cred);
	return ret;
}
