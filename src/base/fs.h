/* Files: whole reads with a bound, replacement that survives a power cut,
 * directories, locks. */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* Adds the whole file to out; more than max bytes is an error. */
int fs_read(const char *path, size_t max, struct str *out, struct err *e);
/* Temporary file beside it, fsync, rename, fsync of the directory. */
int fs_replace(const char *path, const void *data, size_t n, mode_t mode,
               struct err *e);
/* Makes the directory and its parents; those that are there stay as is. */
int fs_mkdirs(const char *path, mode_t mode, struct err *e);
int fs_sync_dir(const char *path, struct err *e);
bool fs_exists(const char *path);
/* 0 also when it was not there. */
int fs_remove(const char *path, struct err *e);
/* Removes a whole tree; never follows links. 0 also when it was not there. */
int fs_remove_tree(const char *path, struct err *e);

/* Takes path as an exclusive lock and writes `who` into it.  ERR_BUSY names
 * the holder.  The lock lives as long as the descriptor; the file stays. */
int fs_lock(const char *path, const char *who, int *fd, struct err *e);
/* Does somebody hold it?  Asking never takes it. */
bool fs_locked(const char *path);
/* Reads or writes all n bytes at off, or fails. */
int fs_pread_all(int fd, void *buf, size_t n, off_t off);
int fs_pwrite_all(int fd, const void *buf, size_t n, off_t off);
int fs_write_all(int fd, const void *buf, size_t n);

#endif
