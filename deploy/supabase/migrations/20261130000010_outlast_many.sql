-- Outlast: several calls of one function in one request. Workers send calls together that would otherwise wait for each
-- other. All of them are one transaction, so a batch holds the locks of its calls until its end. Therefore:
--
-- * Each call is a subtransaction. If it fails, only it is undone, and the worker sends it again alone. No row is
--   judged within a batch: what a row refuses is not recorded, but raised.
-- * Waits for locks are shorter than PostgreSQL's deadlock_timeout, so in a cycle of waits a call fails and is undone.
--   The worker prevents most cycles: a batch has one call of a user, in the order of users, and each call takes its
--   locks in the usual order: task, generation, objects by (bucket, path), the generation's row.
-- * A call that takes long ends the batch, and the worker sends the calls after it alone.

select public.outlast_start_change();

-- Writes media_status and, unless `p_status_only`, media and the URLs of `write_urls` to the generation's row, if there
-- is one and the binding names these columns. The row stays unchanged while the generation has no task of the row's
-- owner. Raises the error with which the row refuses it; waits briefly for its lock, within outlast_many very briefly,
-- but triggers of the table always have three seconds. `outlast.own_media` tells outlast_notify that the update of this
-- table, at this depth of triggers, writes nothing else. Raises an error also if a trigger skips or undoes the update.
create or replace function public.outlast_update_row(p_binding text, p_generation_id text, p_status_only boolean)
returns void language plpgsql security definer set search_path = '' set lock_timeout = '3s' as $$
declare
  g record;
  r record;
  m record;
  v_set text;
  v_urls jsonb := '{}';
  v_with_urls boolean; v_kept boolean;
  v_path text;
begin
  if current_setting('outlast.in_batch', true) = 'on' then
    perform set_config('lock_timeout', '200ms', true);
  end if;
  select not p_status_only and write_urls <> '{}', public.outlast_search_path(schema) into v_with_urls, v_path
    from public.outlast_bindings where name = p_binding;
  g := public.outlast_bound(p_binding);
  if p_status_only then
    g.media_name := null;
  end if;
  if g.id_name is null or (num_nonnulls(g.media_name, g.media_status_name) = 0 and not v_with_urls) then
    return;
  end if;
  begin
    execute format('select g.%I::text as id, %s as request, %s as owner, to_jsonb(%s) as media, %s as media_status '
        'from %s g where g.%I = $1::%s for update', g.id_name, public.outlast_column(g.request_name), g.owner_sql,
        coalesce('g.' || quote_ident(g.media_name), 'null::text'), public.outlast_column(g.media_status_name), g.rel,
        g.id_name, g.id_type)
      into r using p_generation_id;
  exception when data_exception then
    return;
  end;
  if r.id is null then
    return;
  end if;
  m := public.outlast_media(p_binding, p_generation_id, r.request, r.owner);
  if m.media is null then
    return;
  end if;
  if v_with_urls then
    v_urls := public.outlast_url_changes(p_binding, p_generation_id, (
      select t.output_key from public.outlast_current_tasks(p_binding, p_generation_id, r.request, r.owner) t
      order by t.source is not distinct from 'fal', t.event_at desc limit 1), m.media);
  end if;
  if v_urls = '{}' and (g.media_name is null or m.media is not distinct from r.media)
      and (g.media_status_name is null or m.media_status is not distinct from r.media_status) then
    return;
  end if;
  perform set_config('lock_timeout', '3s', true);
  v_set := concat_ws(', ', quote_ident(g.media_status_name) || ' = $2', quote_ident(g.media_name) || ' = $1');
  if v_urls <> '{}' then
    v_set := concat_ws(', ', nullif(v_set, ''), (
      select string_agg(format(case jsonb_typeof(u.value) when 'array'
        then '%1$I = array(select jsonb_array_elements_text($4 -> %1$L))' else '%1$I = $4 ->> %1$L' end, u.key), ', ')
      from jsonb_each(v_urls) u));
    perform set_config('outlast.own_update', concat(p_binding, chr(31), r.id), true);
  end if;
  perform set_config('outlast.own_media', case v_urls when '{}'
    then concat(g.rel::oid, ' ', pg_trigger_depth() + 1) else '' end, true), set_config('search_path', v_path, true);
  execute format('update %s g set %s where g.%I = $3::%s returning %s', g.rel, v_set, g.id_name, g.id_type,
      coalesce('g.' || quote_ident(g.media_status_name) || ' is not distinct from $2',
        'g.' || quote_ident(g.media_name) || ' is not distinct from $1', 'true'))
    into v_kept using m.media, m.media_status, p_generation_id, v_urls;
  if v_kept is not true then
    raise exception 'a trigger of the table skips or undoes the update' using errcode = 'triggered_action_exception';
  end if;
  perform set_config('outlast.own_media', '', true);
  if v_urls <> '{}' then
    perform set_config('outlast.own_update', '', true);
  end if;
  set constraints all immediate;  -- a deferred constraint trigger would refuse the whole transaction at its commit
end $$;

-- Writes the row as `outlast_update_row` does. What the row, its constraints or a user's trigger refuse is recorded and
-- not raised, also a statement timeout in a trigger; what concerns the whole server is raised: lack of resources (53),
-- shutdown (57P), system and internal errors (58, F0, XX). Within outlast_many everything is raised.
create or replace function public.outlast_write_media(p_binding text, p_generation_id text, p_status_only boolean)
returns void language plpgsql security definer set search_path = '' as $$
declare
  v_sqlstate text;
  v_message text;
begin
  if p_generation_id is null then
    return;
  end if;
  perform public.outlast_lock_generation(p_binding, p_generation_id);
  begin
    perform public.outlast_update_row(p_binding, p_generation_id, p_status_only);
    if not p_status_only and exists (
        select from public.outlast_rejected_rows where binding = p_binding and generation_id = p_generation_id) then
      perform public.outlast_clear_rejection(p_binding, p_generation_id);
    end if;
  exception when query_canceled or others then
    get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
    if v_sqlstate ~ '^(53|57P|58|F0|XX)' or current_setting('outlast.in_batch', true) = 'on' then
      raise;
    end if;
    perform public.outlast_note_rejection(p_binding, p_generation_id, v_sqlstate, v_message);
  end;
end $$;

-- Calls outlast_begin, outlast_known, outlast_claim, outlast_claim_all or outlast_finish with each of these objects of
-- arguments. Returns an array with the result of each call: {"result"}, or {"code", "message"} if it failed and was
-- undone. After a call that took long the array ends: the further calls were not made. An error of the whole function
-- has undone all calls. Calls with `fal_result` must not be in it: their row is judged here already.
create or replace function public.outlast_many(p_function text, p_calls jsonb) returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '200ms' as $$
declare
  c jsonb;
  v_result jsonb;
  v_answers jsonb[] := '{}';
  v_sqlstate text; v_message text;
  v_began timestamptz := clock_timestamp();
  v_resets text[];
  v_reset text;
begin
  if p_function is null or p_function not in (
      'outlast_begin', 'outlast_known', 'outlast_claim', 'outlast_claim_all', 'outlast_finish') then
    raise exception 'outlast_many does not call %', coalesce(p_function, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  if p_function in ('outlast_begin', 'outlast_finish') then
    v_resets := public.outlast_constraint_resets();
  end if;
  perform set_config('outlast.in_batch', 'on', true);
  for n in 0 .. jsonb_array_length(p_calls) - 1 loop
    c := p_calls -> n;
    begin
      v_result := case p_function
        when 'outlast_begin' then public.outlast_begin(c -> 'p_job', (c ->> 'p_lease')::uuid, c ->> 'p_worker',
          coalesce((c ->> 'p_lease_seconds')::int, 30))
        when 'outlast_known' then public.outlast_known(c ->> 'p_user_id', c ->> 'p_source_sha256', c ->> 'p_profile')
        when 'outlast_claim' then public.outlast_claim(c ->> 'p_bucket', c ->> 'p_path', c ->> 'p_user_id')
        when 'outlast_claim_all' then public.outlast_claim_all(c ->> 'p_bucket', array(
          select jsonb_array_elements_text(c -> 'p_paths')), c ->> 'p_user_id')
        when 'outlast_finish' then public.outlast_finish((c ->> 'p_task_id')::uuid, (c ->> 'p_lease')::uuid,
          c ->> 'p_status', nullif(c -> 'p_files', 'null'), nullif(c -> 'p_failed', 'null'),
          nullif(c -> 'p_error', 'null'), nullif(c -> 'p_result', 'null'))
      end;
      v_answers := v_answers || jsonb_build_object('result', v_result);
    exception when others then
      get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
      v_answers := v_answers || jsonb_build_object('code', v_sqlstate, 'message', left(v_message, 300));
    end;
    exit when clock_timestamp() - v_began > interval '250 ms';
    foreach v_reset in array coalesce(v_resets, '{}') loop
      execute v_reset;
    end loop;
  end loop;
  perform set_config('outlast.in_batch', '', true);
  return to_jsonb(v_answers);
end $$;

-- The statements after which deferrable constraints are as at the beginning of a transaction: outlast_update_row makes
-- all of them immediate, and the triggers of the next row must not notice. Empty if no constraint is deferred by then.
create or replace function public.outlast_constraint_resets() returns text[]
language plpgsql stable security definer set search_path = '' as $$
declare
  v_immediate text;
begin
  if not exists (select from pg_constraint where condeferred) then
    return '{}';
  end if;
  select string_agg(format('%I.%I', n.nspname, c.conname), ', ') into v_immediate
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
    where c.condeferrable and not c.condeferred and has_schema_privilege(n.oid, 'usage');
  return array_remove(array['set constraints all deferred', 'set constraints ' || v_immediate || ' immediate'], null);
end $$;

revoke all on function public.outlast_update_row(text, text, boolean), public.outlast_constraint_resets(),
  public.outlast_write_media(text, text, boolean) from public, anon, authenticated, service_role;
revoke all on function public.outlast_many(text, jsonb) from public, anon, authenticated;
grant execute on function public.outlast_many(text, jsonb) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261130000010')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
