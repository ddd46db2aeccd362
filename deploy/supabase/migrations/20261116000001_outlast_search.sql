-- Outlast: the console's search by any id, path or URL, and what is known of a generation's row.

select public.outlast_start_change();

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_files_source_key', 'outlast_files (source_key)'),
  ('outlast_tasks_unstored_keys', 'outlast_tasks using gin (source_keys) where status in (''failed'', ''partial'')')
) as i (name, on_columns);

-- Whether rows of a bound table are found fast by a column: it begins an index, or the table is small.
create or replace function public.outlast_searchable(p_table regclass, p_column text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return exists (
      select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = p_table and i.indisvalid and i.indpred is null and a.attname = p_column)
    or exists (select from pg_class where oid = p_table and relkind = 'r' and pg_relation_size(oid) < 4 * 1024 * 1024);
end $$;

-- The rows of all bindings with this id, request id or owner, at most 20 of each binding and kind: {"rows": [{"binding",
-- "generation_id", "by"}], "not_searched": [{"binding", "column"}]}. A column that would need a scan of a large table is
-- not searched. A text that the column's type cannot hold matches no row.
create or replace function public.outlast_find_rows(p_text text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '3s' set jit = off as $$
declare
  g record;
  c record;
  v_rows jsonb := '[]';
  v_found jsonb;
  v_not_searched jsonb := '[]';
begin
  for g in select o.*, b.owner_table is null as owns from public.outlast_bindings b, public.outlast_bound(b.name) o
      where o.id_name is not null order by b.name limit 50 loop
    for c in select * from (values ('id', g.id_name), ('request', g.request_name),
        ('owner', case when g.owns then g.owner_name end)) k (kind, name) where k.name is not null loop
      if not public.outlast_searchable(g.rel, c.name) then
        v_not_searched := v_not_searched || jsonb_build_object('binding', g.binding, 'column', c.name);
        continue;
      end if;
      begin
        execute format('select coalesce(jsonb_agg(jsonb_build_object(''binding'', %L, ''generation_id'', r.id, ''by'','
            ' %L)), ''[]'') from (select left(g.%I::text, 257) as id from %s g where g.%I = $1::%s limit 20) r',
            g.binding, c.kind, g.id_name, g.rel, c.name, (select format_type(atttypid, -1) from pg_attribute
              where attrelid = g.rel and attname = c.name)) into v_found using p_text;
        v_rows := v_rows || v_found;
      exception when data_exception then
        continue;
      end;
    end loop;
  end loop;
  return jsonb_build_object('rows', v_rows, 'not_searched', v_not_searched);
end $$;

-- What Outlast itself has recorded of a text: tasks with this id, generation, request or user; and of files by source
-- key or by path in one of its buckets: {"tasks": [...], "files": [{"binding", "generation_id", "bucket", "path"}],
-- "objects": [{"bucket", "path", "refs", "state"}]}. At most 20 of each.
create or replace function public.outlast_find(p_text text, p_keys text[], p_paths text[]) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '3s' set jit = off as $$
declare
  v_buckets text[] := array(select bucket from public.outlast_bindings where bucket is not null
    union select value from public.outlast_settings where key = 'bucket' and value is not null);
  v_tasks uuid[];
begin
  v_tasks := array(select task_id from public.outlast_tasks where status in ('failed', 'partial')
      and source_keys && p_keys order by created_at desc limit 20)
    || array(select task_id from (select task_id, source_keys from public.outlast_tasks
      where status in ('queued', 'running', 'retrying') order by status limit 5000) t where source_keys && p_keys);
  return jsonb_build_object(
    'tasks', public.outlast_console_tasks(jsonb_build_object('q', p_text), null, 20) || coalesce((
      select jsonb_agg(jsonb_build_object('task_id', t.task_id, 'binding', t.binding, 'generation_id', t.generation_id,
        'user_id', t.user_id, 'status', t.status, 'queue', t.queue, 'attempt', t.attempt,
        'error', left(t.error, 300), 'error_code', t.error_code, 'total_files', t.total_files,
        'created_at', t.created_at)) from public.outlast_tasks t where t.task_id = any (v_tasks[1:20])), '[]'),
    'files', (select coalesce(jsonb_agg(to_jsonb(f)), '[]') from (
      (select binding, generation_id, bucket, path from public.outlast_files where source_key = any (p_keys) limit 20)
      union
      (select binding, generation_id, bucket, path from public.outlast_files
        where bucket = any (v_buckets) and path = any (p_paths) limit 20)) f),
    'objects', (select coalesce(jsonb_agg(to_jsonb(o)), '[]') from (
      select bucket, path, refs, state from public.outlast_objects
      where bucket = any (v_buckets) and path = any (p_paths) limit 20) o));
end $$;

-- The SQL condition that is true for rows (alias `g`) from before the installation.
create or replace function public.outlast_is_past_sql(p_binding text) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce(nullif(concat_ws(' or ', '(' || public.outlast_age_where(p_binding, true, null, null) || ')',
    '(' || public.outlast_undated_where(p_binding, true, null, null) || ')'), ''), 'false');
end $$;

-- Why a generation has its media, or none: its row, as far as Outlast reads it; the files that its tasks name, as
-- `media` lists them; and what brings rows to Outlast: trigger, address of the webhook, secret, the last sweep.
create or replace function public.outlast_console_row(p_id text, p_binding text default 'generations') returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '3s' set jit = off as $$
declare
  b public.outlast_bindings;
  g record;
  m record;
  v_row jsonb;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  if g.id_name is not null and g.output_names is not null then
    begin
      execute format('select to_jsonb(r) from (select %s as owner, %s as status, %s as request_id, %s as created_at, %s'
        ' as deleted, %s as completed, %s as empty, (%s) is true as past, to_jsonb(g) -> %L as media_status from %s g'
        ' where g.%I = $1::%s) r',
        g.owner_sql, public.outlast_column(g.status_name), public.outlast_column(g.request_name),
        public.outlast_column(g.created_name), g.deleted_sql,
        public.outlast_done_sql('g', g.status_name, g.completed, g.output_names),
        (select string_agg(format('g.%I is null', c), ' and ') from unnest(g.output_names) c),
        public.outlast_is_past_sql(p_binding), coalesce(g.media_status_name, ''), g.rel, g.id_name, g.id_type)
        into v_row using p_id;
    exception when data_exception then
      null;
    end;
  end if;
  select * into m from public.outlast_media(p_binding, p_id, v_row ->> 'request_id', v_row ->> 'owner');
  return jsonb_build_object('id', p_id, 'binding', p_binding, 'bound', b.name is not null,
    'table', case when b.name is not null then format('%I.%I', b.schema, b."table") end,
    'usable', g.id_name is not null and g.output_names is not null, 'columns', b.output_columns,
    'completed_values', b.completed_values, 'media_column', b.media_column,
    'installed_at', nullif(b.installed_at, '-infinity'), 'row', v_row,
    'media', coalesce(m.media, '[]'), 'media_status', m.media_status,
    'rejected', (select to_jsonb(x) from public.outlast_rejected_rows x
                 where x.binding = p_binding and x.generation_id = p_id),
    'trigger', (select coalesce(bool_or(t.tgenabled in ('O', 'A')), false) from pg_trigger t
                where t.tgrelid = g.rel and t.tgfoid = 'public.outlast_notify'::regproc),
    'webhook_url', (select value from public.outlast_settings where key = 'webhook_url'),
    'secret', coalesce(public.outlast_webhook_secret(), '') <> '',
    'swept_at', (select ran_at from public.outlast_turns where name = 'reconcile'),
    'bindings', (select coalesce(jsonb_agg(name order by name), '[]') from public.outlast_bindings));
end $$;

revoke all on function public.outlast_searchable(regclass, text), public.outlast_is_past_sql(text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_find_rows(text), public.outlast_find(text, text[], text[]),
  public.outlast_console_row(text, text) from public, anon, authenticated;
grant execute on function public.outlast_find_rows(text), public.outlast_find(text, text[], text[]),
  public.outlast_console_row(text, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261116000001')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
