-- Outlast: what became of replayed dead letters. A replay notes its dead letters here before it
-- publishes them, and the functions that end a task write the outcome.

select public.outlast_start_change();

create table if not exists public.outlast_replayed (
  operation_id uuid not null,
  letter_id uuid not null,
  task_id uuid not null,
  source_keys text[] not null,
  outcome text,  -- null: not processed yet; stored, cancelled, or the error code of the new failure
  primary key (operation_id, letter_id)
);

select public.outlast_add_index('outlast_replayed_open', 'outlast_replayed (task_id) where outcome is null');
select public.outlast_add_index('outlast_replayed_outcome', 'outlast_replayed (operation_id, outcome)');
select public.outlast_protect_table('public.outlast_replayed');

-- Notes the dead letters of a replay: [{"id", "task_id", "source_keys"}].
create or replace function public.outlast_follow_replay(p_id uuid, p_letters jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.outlast_replayed (operation_id, letter_id, task_id, source_keys)
    select p_id, l.id, l.task_id, l.source_keys
    from jsonb_to_recordset(p_letters) as l (id uuid, task_id uuid, source_keys text[])
    on conflict do nothing;
  return 'null';
end $$;

-- Removes the dead letters of a replay that were not published after all.
create or replace function public.outlast_unfollow_replay(p_id uuid, p_letter_ids uuid[]) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_replayed where operation_id = p_id and letter_id = any (p_letter_ids) and outcome is null;
  return 'null';
end $$;

-- Writes the outcome of the replayed dead letters of a task that has ended. `p_failed` has the failures of this attempt:
-- a task's dead letters are separate messages, so another message may still be waiting. `p_code` is the outcome of all.
create or replace function public.outlast_note_replayed(
  p_binding text, p_generation_id text, p_task_id uuid, p_failed jsonb, p_code text default null
) returns void language plpgsql security definer set search_path = '' as $$
begin
  update public.outlast_replayed r set outcome = coalesce(p_code,
      (select f ->> 'code' from jsonb_array_elements(p_failed) f where f ->> 'source_key' = any (r.source_keys) limit 1),
      case when not exists (
        select from unnest(r.source_keys) k (source_key) where not exists (
          select from public.outlast_files f where f.binding = p_binding and f.generation_id = p_generation_id
            and f.source_key = k.source_key)) then 'stored' end)
    where r.task_id = p_task_id and r.outcome is null;
end $$;

-- What became of the dead letters of these replays: {id: {"stored", "cancelled", "waiting", "failed": {code: number}}}.
create or replace function public.outlast_replay_results(p_ids uuid[]) returns jsonb
language sql stable security definer set search_path = '' set jit = off as $$
  with counts as (
    select operation_id, outcome, count(*) as n from public.outlast_replayed
    where operation_id = any (p_ids) group by 1, 2
  )
  select coalesce(jsonb_object_agg(operation_id, result), '{}') from (
    select operation_id, jsonb_build_object(
      'stored', coalesce(sum(n) filter (where outcome = 'stored'), 0),
      'cancelled', coalesce(sum(n) filter (where outcome = 'cancelled'), 0),
      'waiting', coalesce(sum(n) filter (where outcome is null), 0),
      'failed', coalesce(jsonb_object_agg(outcome, n order by n desc)
        filter (where outcome not in ('stored', 'cancelled')), '{}')) as result
    from counts group by operation_id) r
$$;

-- Keeps the results of replays that ended an hour ago, and forgets their dead letters, unless one is still waiting. After
-- a week none is waited for.
create or replace function public.outlast_settle_replays() returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_id uuid;
begin
  for v_id in select o.id from public.outlast_operations o
      where o.verb = 'replay' and o.results is null and o.ended_at < now() - interval '1 hour'
        and exists (select from public.outlast_replayed r where r.operation_id = o.id)
        and (o.ended_at < now() - interval '7 days' or not exists (
          select from public.outlast_replayed r where r.operation_id = o.id and r.outcome is null))
      order by o.started_at limit 100 loop
    update public.outlast_operations set results = public.outlast_replay_results(array[v_id]) -> v_id::text
      where id = v_id;
    delete from public.outlast_replayed where operation_id = v_id;
  end loop;
end $$;

revoke all on function public.outlast_settle_replays() from public, anon, authenticated, service_role;
revoke all on function public.outlast_note_replayed(text, text, uuid, jsonb, text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_follow_replay(uuid, jsonb), public.outlast_unfollow_replay(uuid, uuid[]),
  public.outlast_replay_results(uuid[]) from public, anon, authenticated;
grant execute on function public.outlast_follow_replay(uuid, jsonb), public.outlast_unfollow_replay(uuid, uuid[]),
  public.outlast_replay_results(uuid[]) to service_role;
