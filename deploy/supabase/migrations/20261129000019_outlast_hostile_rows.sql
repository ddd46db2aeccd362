-- Outlast 19: the sweep reads pages that are limited in rows and bytes. No time and no output of a row can stop it.

select public.outlast_start_change();

-- What is missing after `p_after`, in this order: of each binding, its young rows, oldest first; rows without a creation
-- time; noted rows (see outlast_installation.sql); then idle tasks by generation. From {"kind": "past", "binding"}: the
-- rows of that binding (by default of `generations`) from before the installation; those without a creation time; queued
-- tasks of `outlast adopt`. `place` is the `p_after` that continues after an entry.
drop function if exists public.outlast_missing_keys(timestamptz, timestamptz, jsonb, timestamptz, int);  -- pre-release
create or replace function public.outlast_missing_keys(
  p_since timestamptz, p_until timestamptz, p_after jsonb, p_before timestamptz, p_limit int
) returns table (binding text, generation_id text, user_id text, request_id text, created_at timestamptz, reason text,
                 task_id uuid, place jsonb)
language plpgsql stable security definer set search_path = '' set datestyle = 'ISO' as $$
#variable_conflict use_column
declare
  g record;
  v_past boolean := coalesce(starts_with(p_after ->> 'kind', 'past'), false);
  v_binding text := coalesce(p_after ->> 'binding', case when v_past then 'generations' end);
  v_idle text := case when v_past then 'past_idle' else 'idle' end;
  v_kinds text[] := case when v_past then '{past,past_undated}' else '{dated,undated,late}' end;
  v_after jsonb;
  v_left int := p_limit;
  v_found int;
  v_id text;
  v_condition text;
begin
  for g in select o.* from public.outlast_bindings b, public.outlast_bound(b.name) o
      where (p_after ->> 'kind') is distinct from v_idle
        and case when v_past then b.name = v_binding else b.name >= coalesce(v_binding, '') end order by b.name loop
    continue when public.outlast_unheard_where(g.binding) is null;
    v_after := case when g.binding = v_binding then p_after end;  -- null: from the binding's beginning
    for n in coalesce(array_position(v_kinds, v_after ->> 'kind'), 1) .. cardinality(v_kinds) loop
      exit when v_left <= 0;
      v_id := case when v_kinds[n] = v_after ->> 'kind' then v_after ->> 'id' end;  -- null: from the kind's beginning
      v_condition := case n
        when 1 then public.outlast_age_where(g.binding, v_past, p_since, p_until) || case when v_id is null then ''
          else format(' and (g.%I, g.%I) > (%L, %L)', coalesce(g.created_name, g.id_name), g.id_name,
            v_after ->> 'created', v_id) end
        when 2 then public.outlast_undated_where(g.binding, v_past, p_since, p_until) || case when v_id is null then ''
          else format(' and g.%I > %L', g.id_name, v_id) end
        else public.outlast_late_where(g.binding, coalesce(v_id, '')) end;
      if v_condition is not null then
        begin
          return query execute public.outlast_missing_rows_query(g.binding, v_condition, v_kinds[n], p_before, v_left);
          get diagnostics v_found = row_count;
        exception when others then  -- this table must not stop the sweep of the others
          if sqlstate ~ '^(53|57|58|F0|XX)' then
            raise;
          end if;
          raise warning 'outlast: the sweep leaves out the binding %: % (SQLSTATE %)', g.binding, sqlerrm, sqlstate;
          v_found := 0;
        end;
        v_left := v_left - v_found;
      end if;
    end loop;
  end loop;
  if v_left > 0 then
    return query
      with idle as materialized (
        select t.* from public.outlast_tasks t
        where t.status in ('queued', 'running', 'retrying') and t.updated_at < p_before
          and (t.lease_until is null or t.lease_until < p_before)
          and case when v_past then t.status = 'queued' and t.source = 'adopt' and t.binding = v_binding
            else (p_since is null or t.created_at >= p_since) and (p_until is null or t.created_at <= p_until) end
      )
      select t.binding, t.generation_id, t.user_id, t.request_id, t.created_at, 'idle', t.task_id, jsonb_build_object(
        'binding', v_binding, 'kind', v_idle, 'generation', coalesce(t.generation_id, ''), 'id', t.task_id)
      from idle t
      where p_after ->> 'generation' is null
        or (coalesce(t.generation_id, ''), t.task_id) > (p_after ->> 'generation', (p_after ->> 'id')::uuid)
      order by coalesce(t.generation_id, ''), t.task_id limit v_left;
  end if;
end $$;

-- A page of what a sweep should enqueue: `entries`, and `next`, the `p_after` of the next page (null at the end). An
-- entry is {binding, generation_id, user_id, request_id, created_at, reason, task_id, output_json, output_bytes,
-- same_output, past}. `past`: the idle task is one of `outlast adopt`. `output_json` is the output as JSON text. It is
-- null without a row, for more than `p_output_bytes`, and for an idle task of the same generation as the entry before it
-- (then `same_output` is true). A page has at most `p_limit` entries and at most `p_page_bytes` of outputs, unless its
-- only entry has more.
create or replace function public.outlast_missing_page(
  p_since timestamptz default null, p_until timestamptz default null, p_after jsonb default null,
  p_limit int default 200, p_idle_seconds int default 7200, p_page_bytes bigint default 4194304,
  p_output_bytes bigint default 67108864
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  k record;
  v_output text;
  v_size bigint;
  v_before timestamptz := now() - make_interval(secs => p_idle_seconds);
  v_entries jsonb[] := '{}';
  v_bytes bigint := 0;
  v_generation text[];
  v_same boolean;
  v_place jsonb;
  v_full boolean := false;
begin
  for k in select * from public.outlast_missing_keys(p_since, p_until, p_after, v_before, p_limit) loop
    v_same := coalesce(k.reason = 'idle' and array[k.binding, k.generation_id] = v_generation, false);
    v_output := null;
    v_size := null;
    if not v_same then
      select o.output, o.bytes into v_output, v_size 
        from public.outlast_output(k.generation_id, p_output_bytes, k.binding) o;
    end if;
    v_bytes := v_bytes + coalesce(octet_length(v_output), 0);
    if v_place is not null and v_bytes > p_page_bytes then
      v_full := true;
      exit;
    end if;
    v_entries := v_entries || jsonb_build_object('binding', k.binding, 'generation_id', k.generation_id,
      'user_id', k.user_id, 'request_id', k.request_id, 'created_at', k.created_at, 'reason', k.reason,
      'task_id', k.task_id, 'output_json', v_output, 'output_bytes', v_size, 'same_output', v_same,
      'past', k.task_id is not null and exists (
        select from public.outlast_tasks t where t.task_id = k.task_id and t.source = 'adopt'));
    v_generation := case when k.reason = 'idle' then array[k.binding, k.generation_id] end;
    v_place := k.place;
  end loop;
  return jsonb_build_object('entries', to_jsonb(v_entries),
    'next', case when v_full or cardinality(v_entries) >= p_limit then v_place end);
end $$;

-- The first page in the form that workers of version 0.1 read, which know no bindings, oldest first: [{generation_id,
-- user_id, request_id, output, created_at, reason, task_id}]. An output that jsonb cannot hold is null.
create or replace function public.outlast_missing(
  p_since timestamptz default null, p_limit int default 500, p_idle_seconds int default 7200
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_page jsonb := public.outlast_missing_page(
    p_since => p_since, p_limit => p_limit, p_idle_seconds => p_idle_seconds, p_page_bytes => 67108864);
begin
  return (
    with entries as (
      select e, ordinality from jsonb_array_elements(v_page -> 'entries') with ordinality as l (e, ordinality)
      where e ->> 'binding' = 'generations'
    )
    select coalesce(jsonb_agg(
      e - array['binding', 'output_json', 'output_bytes', 'same_output', 'past',
          case when e ->> 'reason' <> 'idle' then 'task_id' end]
        || jsonb_build_object('output', public.outlast_to_jsonb(case when (e ->> 'same_output')::boolean
             then (public.outlast_output(e ->> 'generation_id', 67108864)).output else e ->> 'output_json' end))
      order by (e ->> 'created_at')::timestamptz nulls last, ordinality), '[]')
    from entries
    where e ->> 'reason' <> 'idle' or e ->> 'generation_id' is null or e ->> 'generation_id' not in (
      select o.e ->> 'generation_id' from entries o where o.e ->> 'reason' <> 'idle')
  );
end $$;

revoke all on function public.outlast_missing_keys(timestamptz, timestamptz, jsonb, timestamptz, int)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_missing(timestamptz, int, int),
  public.outlast_missing_page(timestamptz, timestamptz, jsonb, int, int, bigint, bigint)
  from public, anon, authenticated;
grant execute on function public.outlast_missing(timestamptz, int, int),
  public.outlast_missing_page(timestamptz, timestamptz, jsonb, int, int, bigint, bigint) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000019')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
