"""Deployment: the local stack, the Supabase migrations, and files for Docker, Kubernetes, systemd and monitoring."""
