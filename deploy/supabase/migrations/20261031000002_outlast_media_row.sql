-- Outlast: writing media and media_status to the generation's row. Rows are hostile input, and have triggers of the
-- application.
--
-- The update of a generation's row runs in its own subtransaction. If the row or a trigger refuses it, only that update
-- is undone. It is recorded, and the sweep tries it again.

select public.outlast_start_change();

-- Generations whose row refused the update of media and media_status.
create table if not exists public.outlast_rejected_rows (
  binding text not null default 'generations',
  generation_id text not null,
  sqlstate text not null,
  message text not null,
  tries int not null default 0,
  retry_at timestamptz not null,
  created_at timestamptz not null default now(),
  primary key (binding, generation_id)
);

-- A table created by a pre-release version has another primary key.
do $$
begin
  if not exists (select from pg_attribute
      where attrelid = 'public.outlast_rejected_rows'::regclass and attname = 'binding') then
    perform public.outlast_lock_tables();
    alter table public.outlast_rejected_rows add column binding text not null default 'generations',
      drop constraint outlast_rejected_rows_pkey, add primary key (binding, generation_id);
  end if;
end $$;

select public.outlast_add_index('outlast_rejected_rows_due', 'outlast_rejected_rows (retry_at)');
select public.outlast_protect_table('public.outlast_rejected_rows');

-- An entry of a media list, or of the variants in one, with its `url`.
create or replace function public.outlast_with_url(p_entry jsonb, p_prefix text) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return p_entry || jsonb_build_object('url', p_prefix || (p_entry ->> 'path'))
    || case when p_entry ? 'variants' then jsonb_build_object('variants', (
      select jsonb_agg(public.outlast_with_url(v.value, p_prefix) order by v.ordinality)
      from jsonb_array_elements(p_entry -> 'variants') with ordinality v)) else '{}' end;
end $$;

-- The search_path for statements that write an application's table. Its triggers and constraints may use names without
-- a schema, as in requests of the application itself. Our own names in such a statement have their schema.
create or replace function public.outlast_search_path(p_schema text) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return format('%I, public, extensions', p_schema);
end $$;

-- Writes media_status and, unless `p_status_only`, media and the URLs of `write_urls` to the generation's row, if there
-- is one and the binding names these columns. The row stays unchanged while the generation has no task of the row's
-- owner. Raises the error with which the row refuses it; waits briefly for its lock. `outlast.own_media` tells
-- outlast_notify that the update of this table, at this depth of triggers, writes nothing else. Raises an error also if
-- a trigger skips or undoes the update.
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

-- Records that the row refused the update, for the retries, and on the ended tasks of the generation. A task that
-- another transaction holds is skipped, because waiting for it here could deadlock; its own end records the same.
create or replace function public.outlast_note_rejection(
  p_binding text, p_generation_id text, p_sqlstate text, p_message text
) returns void language plpgsql security definer set search_path = '' as $$
begin
  insert into public.outlast_rejected_rows as r (binding, generation_id, sqlstate, message, retry_at)
    values (p_binding, p_generation_id, p_sqlstate, left(p_message, 300), now() + interval '1 minute')
    on conflict (binding, generation_id) do update set sqlstate = excluded.sqlstate, message = excluded.message;
  update public.outlast_tasks set error_code = 'row_rejected', updated_at = now(),
      error = format('the files are recorded, but the generation''s row refused the update of media (SQLSTATE %s): %s',
                     p_sqlstate, left(p_message, 300))
    where task_id in (
      select task_id from public.outlast_tasks
      where binding = p_binding and generation_id = p_generation_id and error_code is null
        and status in ('completed', 'partial', 'failed')
      for update skip locked);
end $$;

-- Removes that record after the whole media list was written.
create or replace function public.outlast_clear_rejection(p_binding text, p_generation_id text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_rejected_rows where binding = p_binding and generation_id = p_generation_id;
  if found then
    update public.outlast_tasks set error_code = null, error = null, updated_at = now()
      where task_id in (
        select task_id from public.outlast_tasks
        where binding = p_binding and generation_id = p_generation_id and error_code = 'row_rejected'
        for update skip locked);
  end if;
end $$;

-- Writes the row as `outlast_update_row` does. What the row, its constraints or a user's trigger refuse is recorded and
-- not raised, also a statement timeout in a trigger; what concerns the whole server is raised: lack of resources (53),
-- shutdown (57P), system and internal errors (58, F0, XX).
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
    if v_sqlstate ~ '^(53|57P|58|F0|XX)' then
      raise;
    end if;
    perform public.outlast_note_rejection(p_binding, p_generation_id, v_sqlstate, v_message);
  end;
end $$;

revoke all on function public.outlast_with_url(jsonb, text), public.outlast_search_path(text),
  public.outlast_update_row(text, text, boolean),
  public.outlast_note_rejection(text, text, text, text), public.outlast_clear_rejection(text, text),
  public.outlast_write_media(text, text, boolean) from public, anon, authenticated, service_role;
