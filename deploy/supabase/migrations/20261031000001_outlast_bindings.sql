-- Outlast: bindings. A binding says how one table of the application holds generations. A generation is identified by
-- its binding and its id. Functions read the bindings at each call, so workers need no restart after a change.
--
-- Internal functions only: the functions of later migrations call them, and no role may execute them directly. Those
-- used by every job are in plpgsql, which caches query plans for the session. Planning such a query takes longer than
-- running it.

select public.outlast_start_change();

-- The owner of a row is the value of `owner_column`. With `owner_table`, that column is a foreign key: the owner is
-- then `owner_value` of the row of that table whose `owner_key` is the same. Without a status column, a row is
-- completed when an output column becomes not null, or changes. A row whose deleted column is set (true, or not null)
-- counts as deleted. `installed_at` is when the table was bound, or -infinity where rows of every age are taken.
-- `write_urls` names columns for the files' URLs, and with `fal_finishes` FAL's webhook completes the row.
create table if not exists public.outlast_bindings (
  name text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
  schema text not null default 'public',
  "table" text not null,
  id_column text not null default 'id',
  owner_column text,
  owner_schema text,
  owner_table text,
  owner_key text,
  owner_value text,
  status_column text,
  completed_values text[] not null default '{}',
  output_columns text[] not null check (cardinality(output_columns) > 0),
  request_column text,
  created_column text,
  model_column text,
  error_column text,
  deleted_column text,
  media_column text,
  media_status_column text,
  write_urls jsonb not null default '{}' check (jsonb_typeof(write_urls) = 'object'),
  fal_finishes boolean not null default false,
  installed_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (schema, "table"),
  check ((status_column is null) = (completed_values = '{}')),
  check (num_nulls(owner_schema, owner_table, owner_key, owner_value) in (0, 4)),
  check (owner_table is null or owner_column is not null)
);

select public.outlast_protect_table('public.outlast_bindings');

-- SQL for the owner of a row (alias `g`) over a foreign key of the type `p_type`; the expression `null::text` while a
-- column of it is missing. Keys of types that cannot be compared, such as text and uuid, are compared as text.
create or replace function public.outlast_owner_sql(b public.outlast_bindings, p_type text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  v_types jsonb := (select jsonb_object_agg(attname, format_type(atttypid, -1)) from pg_attribute
    where attrelid = to_regclass(format('%I.%I', b.owner_schema, b.owner_table))
      and attname in (b.owner_key, b.owner_value) and not attisdropped);
  v_key text := v_types ->> b.owner_key;
begin
  if p_type is null or v_key is null or not v_types ? b.owner_value then
    return 'null::text';
  end if;
  return format('(select min(o.%I::text) from %I.%I o where o.%I%s = g.%I%5$s)', b.owner_value, b.owner_schema,
    b.owner_table, b.owner_key, case when p_type = v_key or array[p_type, v_key] <@ '{smallint,integer,bigint}'
      then '' else '::text' end, b.owner_column);
end $$;

-- The columns of a binding, as found in the table. `rel` is null when the table does not exist; the name of a missing
-- column is null, except for those that Outlast writes. `owner_sql` and `deleted_sql` are SQL expressions for a row
-- with the alias `g`. Types are named without a length, so that a cast never truncates a value.
create or replace function public.outlast_bound(
  p_binding text, out binding text, out rel regclass, out id_name text, out id_type text, out owner_name text,
  out owner_sql text, out request_name text, out request_type text, out status_name text, out output_names text[],
  out created_name text, out model_name text, out deleted_sql text, out media_name text, out media_status_name text,
  out completed text[]
) language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan as $$  -- planning the query with the array takes longer than all the rest
declare
  b public.outlast_bindings;
  c jsonb;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  if b.name is null then
    return;
  end if;
  binding := b.name;
  rel := to_regclass(format('%I.%I', b.schema, b."table"));
  select coalesce(jsonb_object_agg(attname, format_type(atttypid, -1)), '{}') into c
    from pg_attribute where attrelid = rel and not attisdropped and attname = any (array[b.id_column, b.owner_column,
      b.status_column, b.request_column, b.created_column, b.model_column, b.deleted_column] || b.output_columns);
  id_type := c ->> b.id_column;
  request_type := c ->> b.request_column;
  id_name := case when id_type is not null then b.id_column end;
  request_name := case when request_type is not null then b.request_column end;
  owner_name := case when c ? b.owner_column then b.owner_column end;
  if b.owner_table is null then
    owner_sql := case when owner_name is null then 'null::text' else format('g.%I::text', owner_name) end;
  else
    owner_sql := public.outlast_owner_sql(b, c ->> owner_name);
    owner_name := case when owner_sql <> 'null::text' then owner_name end;
  end if;
  status_name := case when c ? b.status_column then b.status_column end;
  output_names := case when c ?& b.output_columns then b.output_columns end;
  created_name := case when c ? b.created_column then b.created_column end;
  model_name := case when c ? b.model_column then b.model_column end;
  deleted_sql := case when c ->> b.deleted_column is null then 'false'
    when c ->> b.deleted_column = 'boolean' then format('coalesce(g.%I, false)', b.deleted_column)
    else format('g.%I is not null', b.deleted_column) end;
  media_name := b.media_column;
  media_status_name := b.media_status_column;
  completed := b.completed_values;
end $$;

-- SQL for a column of a bound table (alias `g`) cast to text; the expression `null::text` for a missing column.
create or replace function public.outlast_column(p_name text) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return case when p_name is null then 'null::text' else format('g.%I::text', p_name) end;
end $$;

-- The generation of this binding with this id. Without an id, the one with this request id, of any binding. All outputs
-- are null when there is none. A request id that several rows have belongs to none of them, because a user who can
-- write rows could otherwise copy another user's request id and receive that user's files: then only `request_id` is
-- not null. A value that cannot be cast to the column's type matches no row.
create or replace function public.outlast_find_generation(
  p_binding text, p_generation_id text, p_request_id text,
  out binding text, out generation_id text, out user_id text, out request_id text
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
  f record;
  v_by_id boolean := p_generation_id is not null;
  v_matches int := 0;
begin
  if not v_by_id and p_request_id is null then
    return;
  end if;
  for g in select o.* from public.outlast_bindings b, public.outlast_bound(b.name) o
      where not v_by_id or b.name = p_binding order by b.name loop
    continue when g.id_name is null or (not v_by_id and g.request_name is null);
    begin
      execute format(
        'select count(*) as matches, min(m.i) as id, min(m.u) as owner, min(m.r) as request from ('
        'select g.%I::text as i, %s as u, %s as r from %s g where g.%I = $1::%s and not %s limit %s) m',
        g.id_name, g.owner_sql, public.outlast_column(g.request_name), g.rel,
        case when v_by_id then g.id_name else g.request_name end,
        case when v_by_id then g.id_type else g.request_type end, g.deleted_sql,
        case when v_by_id then 1 else 2 end
      ) into f using coalesce(p_generation_id, p_request_id);
    exception when data_exception then
      continue;
    when syntax_error_or_access_rule_violation then  -- the table does not fit its binding any more
      raise warning 'outlast: the table of the binding % cannot be read: % (SQLSTATE %)', g.binding, sqlerrm, sqlstate;
      continue;
    end;
    v_matches := v_matches + f.matches;
    if f.matches > 0 then
      binding := g.binding;
      generation_id := f.id;
      user_id := f.owner;
      request_id := f.request;
    end if;
  end loop;
  if v_matches > 1 then
    binding := null;
    generation_id := null;
    user_id := null;
  end if;
end $$;

-- Takes an advisory lock on the generation until the transaction ends. It also works for a generation without a row.
create or replace function public.outlast_lock_generation(p_binding text, p_generation_id text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(hashtextextended(case when p_binding = 'generations' then 'outlast:' || p_generation_id
    else format('outlast:%s%s%s', p_binding, chr(31), p_generation_id) end, 0));
end $$;

-- The binding of a database that an earlier version set up, from the names in its outlast_settings. A version that did
-- not record the time of the installation took rows of every age.
do $$
declare
  s jsonb;
begin
  if to_regclass('public.outlast_settings') is not null and not exists (select from public.outlast_bindings) then
    s := (select jsonb_object_agg(key, value) from public.outlast_settings);
    if s ->> 'generations_table' is not null then
      insert into public.outlast_bindings (name, schema, "table", id_column, owner_column, status_column,
          completed_values, output_columns, request_column, created_column, media_column, media_status_column,
          installed_at)
        values ('generations', s ->> 'generations_schema', s ->> 'generations_table', s ->> 'id_column',
          s ->> 'user_column', s ->> 'status_column', array[coalesce(s ->> 'completed_value', 'completed')],
          array[s ->> 'output_column'], s ->> 'request_column', s ->> 'created_column', 'media', 'media_status',
          coalesce((s ->> 'installed_at')::timestamptz, case when s ? 'version' then '-infinity' else now() end));
    end if;
  end if;
end $$;

revoke all on function public.outlast_bound(text), public.outlast_column(text),
  public.outlast_owner_sql(public.outlast_bindings, text),
  public.outlast_find_generation(text, text, text), public.outlast_lock_generation(text, text)
  from public, anon, authenticated, service_role;
