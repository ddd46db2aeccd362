"""The gateway's Storage API: buckets, objects, signed URLs, resumable uploads."""
