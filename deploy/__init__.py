"""Where it runs: the local stack, Supabase migrations, and what else a deployment needs."""
