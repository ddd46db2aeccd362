"""A local replacement for a hosted Supabase project: REST, Storage and webhook delivery in front of a real PostgreSQL.

It implements the parts of Supabase's HTTP APIs that Outlast uses. Statuses, bodies and headers are those observed from
Storage API 1.11, PostgREST 12 and pg_net 0.20. The contract tests check them.
"""

from deploy.local.gateway.server import Gateway

__all__ = ["Gateway"]
