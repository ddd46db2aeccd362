"""A small stand-in for a Supabase project: REST, Storage and webhook delivery before a real PostgreSQL.

It speaks Supabase's wire protocols as far as we use them. Statuses, bodies and headers follow what a real Storage API
1.11, PostgREST 12 and pg_net 0.20 were seen to answer; the contract tests hold the facts.
"""

from deploy.local.gateway.server import Gateway

__all__ = ["Gateway"]
