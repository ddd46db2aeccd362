-- Outlast: the queues that an operator has paused.

select public.outlast_start_change();

create table if not exists public.outlast_paused (
  queue text primary key,
  by text not null,
  paused_at timestamptz not null default now()
);
select public.outlast_protect_table('public.outlast_paused');

-- The paused queues: {queue: {"by", "at"}}.
create or replace function public.outlast_paused_queues() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select coalesce(jsonb_object_agg(queue, jsonb_build_object('by', p.by, 'at', p.paused_at)), '{}')
    from public.outlast_paused p);
end $$;

revoke all on function public.outlast_paused_queues() from public, anon, authenticated, service_role;
