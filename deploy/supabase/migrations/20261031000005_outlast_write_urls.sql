-- Outlast: where the files of a binding are stored, and their URLs in the application's own columns (`write_urls`).

select public.outlast_start_change();

-- `bucket` is null for the bucket of outlast_settings; with `public_bucket`, the SQL creates the bucket as a public one.
-- `object_path` are the folders of the files, `{org_id}/{user_id}`: names of columns in braces, and `{user_id}` for the
-- owner; null for `{user_id}`. `variants` is as in the setting VARIANTS, which it replaces; empty for none.
select public.outlast_add_column('public.outlast_bindings', name, type) from (values
  ('bucket', 'text'), ('public_bucket', 'boolean not null default false'), ('object_path', 'text'),
  ('variants', 'text')
) as c (name, type);

-- The value that Outlast has written last to a column of `write_urls`, or found there before: its SHA-256, null for no
-- value. A column with another value was changed by the application, and is not written. `output_key` is the output to
-- which the value belongs.
create table if not exists public.outlast_written_urls (
  binding text not null,
  generation_id text not null,
  column_name text not null,
  output_key text,
  value_hash text,
  primary key (binding, generation_id, column_name)
);

select public.outlast_protect_table('public.outlast_written_urls');

-- The buckets of all bindings. `in_folders`: a binding stores its files there in folders of its own (`object_path`).
create or replace function public.outlast_buckets(out name text, out is_public boolean, out in_folders boolean)
returns setof record language plpgsql stable security definer set search_path = '' as $$
declare
  v_bucket text := coalesce((select value from public.outlast_settings where key = 'bucket'), 'generations');
begin
  return query select w.bucket, bool_or(w.public_bucket), bool_or(w.folders) from (
      select v_bucket as bucket, false as public_bucket, false as folders
      union all select coalesce(b.bucket, v_bucket), b.public_bucket, b.object_path is not null
      from public.outlast_bindings b
    ) w group by w.bucket order by w.bucket;
end $$;

-- What precedes the path in the URLs of a public bucket; null for a private one, and while no worker has sent the
-- project's URL (outlast_note_public_url).
create or replace function public.outlast_public_prefix(p_bucket text) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if (select b.public from storage.buckets b where b.id = p_bucket) then
    return (select s.value || '/storage/v1/object/public/' || (
        select string_agg(case when c ~ '^[A-Za-z0-9._-]$' then c
          else regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g') end, '' order by n)
        from regexp_split_to_table(p_bucket, '') with ordinality as u (c, n)) || '/'
      from public.outlast_settings s where s.key = 'public_url');
  end if;
  return null;
exception when undefined_table or undefined_column or invalid_schema_name or insufficient_privilege then
  return null;
end $$;

-- A media list with the `url` of each file in a public bucket.
create or replace function public.outlast_with_urls(p_media jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_prefixes jsonb;
  v_bucket jsonb := jsonb_path_query_first(p_media, '$[*].bucket');
begin
  if v_bucket is null or (public.outlast_public_prefix(v_bucket #>> '{}') is null
    and not jsonb_path_exists(p_media, '$[*].bucket ? (@ != $b)', jsonb_build_object('b', v_bucket)))
  then
    return p_media;  -- all files are in one private bucket, as is usual
  end if;
  select jsonb_object_agg(b.name, b.prefix) into v_prefixes from (
      select d.name, public.outlast_public_prefix(d.name) as prefix
      from (select distinct e ->> 'bucket' as name from jsonb_array_elements(p_media) e) d where d.name is not null
    ) b where b.prefix is not null;
  if v_prefixes is null then
    return p_media;
  end if;
  return (select jsonb_agg(case when v_prefixes ? (e.value ->> 'bucket')
      then public.outlast_with_url(e.value, v_prefixes ->> (e.value ->> 'bucket')) else e.value end
      order by e.ordinality)
    from jsonb_array_elements(p_media) with ordinality e);
end $$;

-- A worker tells the URL of the project, as browsers reach it.
create or replace function public.outlast_note_public_url(p_url text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.outlast_settings as s (key, value) values ('public_url', p_url)
    on conflict (key) do update set value = excluded.value where s.value is distinct from excluded.value;
end $$;

-- The folders of a new file, from `object_path` of the binding and the generation's row: a list of names, null for no
-- value. Null without an `object_path`.
create or replace function public.outlast_folders(p_binding text, p_generation_id text, p_user_id text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_path text := (select object_path from public.outlast_bindings where name = p_binding);
  v_row jsonb;
begin
  if v_path is null then
    return null;
  end if;
  select * into g from public.outlast_bound(p_binding);
  begin
    execute format('select jsonb_build_object(%s) from %s g where g.%I = $1::%s', (
        select coalesce(string_agg(format('%L, g.%I::text', a.attname, a.attname), ', '), '')
        from pg_attribute a where a.attrelid = g.rel and not a.attisdropped
          and '{' || a.attname || '}' = any (string_to_array(v_path, '/'))), g.rel, g.id_name, g.id_type)
      into v_row using p_generation_id;
  exception when data_exception then
    v_row := null;
  end;
  return (select jsonb_agg(case when f = '{user_id}' then p_user_id when f ~ '^\{.*\}$' then v_row ->> btrim(f, '{}')
      else f end order by n) from unnest(string_to_array(v_path, '/')) with ordinality as p (f, n));
end $$;

-- A URL as `source_url` of the media list has it: without its query, or a reference to a `data:` URI.
create or replace function public.outlast_source_url(p_url text) returns text
language plpgsql immutable security definer set search_path = '' as $$
begin
  return left(case when lower(left(p_url, 5)) = 'data:' then format('data:%s;sha256=%s',
      split_part(split_part(substr(p_url, 6, 195), ',', 1), ';', 1), encode(sha256(convert_to(p_url, 'UTF8')), 'hex'))
    else split_part(split_part(p_url, '#', 1), '?', 1) end, 1000);
end $$;

-- What is written to the columns of `write_urls`, by column: a URL, or a list of URLs; the path in a private bucket. For
-- the same output, a column is only written while it has the value that was found or written last. For another output
-- also when it is empty. An output column itself is written in place of the URL that it had. The caller has locked the
-- generation's row, and writes the columns.
create or replace function public.outlast_url_changes(
  p_binding text, p_generation_id text, p_output_key text, p_media jsonb
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  w record;
  r public.outlast_written_urls;
  v_entries jsonb;
  v_row jsonb;
  v_old jsonb;
  v_new jsonb;
  v_changes jsonb := '{}';
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  execute format('select jsonb_build_object(%s) from %s g where g.%I = $1::%s', (
      select coalesce(string_agg(format('%L, g.%I', a.attname, a.attname), ', '), '') from pg_attribute a
      where a.attrelid = g.rel and not a.attisdropped and a.attname in (select value from jsonb_each_text(b.write_urls))
    ), g.rel, g.id_name, g.id_type) into v_row using p_generation_id;
  for w in select u.value as name, public.outlast_type(a.atttypid) in ('text[]', 'varchar[]'::regtype) as is_list,
      u.value = any (b.output_columns) as in_place, case when cardinality(b.output_columns) > 1 then u.key
        else ltrim(regexp_replace(u.key, '^' || regexp_replace(b.output_columns[1], '([^[:alnum:]])', '\\\1', 'g')
          || '(?=\.|\[|$)', ''), '.') end as prefix
      from jsonb_each_text(b.write_urls) u
      join pg_attribute a on a.attrelid = g.rel and a.attname = u.value and not a.attisdropped order by u.value loop
    v_entries := (select jsonb_agg(jsonb_build_object('source', e.value ->> 'source_url', 'url',
          case when e.value ->> 'status' = 'stored' then coalesce(e.value ->> 'url', e.value ->> 'path') end)
        order by e.ordinality)
      from jsonb_array_elements(p_media) with ordinality e, coalesce(e.value ->> 'field', '') as field
      where e.value ->> 'status' <> 'skipped' and (w.prefix in ('', field)
        or starts_with(field, w.prefix || '.') or starts_with(field, w.prefix || '[')));
    v_new := case when not w.is_list then nullif(v_entries -> 0 -> 'url', 'null')
      when jsonb_path_exists(v_entries, '$[*] ? (@.url != null)') then jsonb_path_query_array(v_entries, '$[*].url') end;
    v_old := nullif(v_row -> w.name, 'null');
    select * into r from public.outlast_written_urls o
      where o.binding = p_binding and o.generation_id = p_generation_id and o.column_name = w.name;
    if w.in_place then
      continue when v_new is null or v_old is null or (
        public.outlast_source_url(v_row ->> w.name) is distinct from v_entries -> 0 ->> 'source'
        and public.outlast_url_hash(v_old) is distinct from r.value_hash);
    elsif r.binding is null or (r.output_key is distinct from p_output_key and coalesce(v_row ->> w.name, '') = '') then
      r.value_hash := public.outlast_url_hash(v_old);
    end if;
    if v_new is not null and v_new is distinct from v_old
      and (w.in_place or public.outlast_url_hash(v_old) is not distinct from r.value_hash)
    then
      v_changes := v_changes || jsonb_build_object(w.name, v_new);
      r.value_hash := public.outlast_url_hash(v_new);
    end if;
    insert into public.outlast_written_urls as o (binding, generation_id, column_name, output_key, value_hash)
      values (p_binding, p_generation_id, w.name, p_output_key, r.value_hash)
      on conflict (binding, generation_id, column_name) do update
        set output_key = excluded.output_key, value_hash = excluded.value_hash
        where (o.output_key, o.value_hash) is distinct from (excluded.output_key, excluded.value_hash);
  end loop;
  return v_changes;
end $$;

create or replace function public.outlast_url_hash(p_value jsonb) returns text
language sql immutable security definer set search_path = '' as $$
  select encode(sha256(convert_to(p_value::text, 'UTF8')), 'hex')
$$;

revoke all on function public.outlast_buckets(), public.outlast_public_prefix(text), public.outlast_with_urls(jsonb),
  public.outlast_folders(text, text, text), public.outlast_source_url(text),
  public.outlast_url_changes(text, text, text, jsonb), public.outlast_url_hash(jsonb)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_note_public_url(text) from public, anon, authenticated;
grant execute on function public.outlast_note_public_url(text) to service_role;
