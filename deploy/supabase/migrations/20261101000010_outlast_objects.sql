-- Outlast 10: removing objects that no file references, without ever removing an object that is still needed.
--
-- A worker claims the path before it uploads. So every object that Outlast creates has a row before it exists, even if
-- the worker dies before outlast_finish. An object may be removed when it has no references and its row has not changed
-- for the grace time, which is longer than any attempt. It is removed in three steps: its row is marked `deleting`, the
-- object is removed through the Storage API, the row is deleted. In the meantime `outlast_claim` and `outlast_finish`
-- refuse the object, and the worker retries later. An object that was in Storage before Outlast claimed its path
-- belongs to the application and is never removed.
--
-- Files of older outputs are kept as long as their generation exists, because an output can become current again. They
-- are deleted after the generation's row is deleted, which a trigger of outlast_install records in outlast_deletions,
-- or when their own rows in outlast_files are deleted.
--
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.

select public.outlast_start_change();

-- `kept`: the object existed before Outlast claimed it, so Outlast never removes it.
select public.outlast_add_column('public.outlast_objects', 'kept', 'boolean not null default false');
select public.outlast_add_index(name, on_columns) from (values
  ('outlast_objects_unused', 'outlast_objects (bucket, path) where refs = 0')
) as i (name, on_columns);

-- Only a generated key and no unique generation_id: an insert by the trigger must never wait for another transaction.
create table if not exists public.outlast_deletions (
  id bigint primary key generated always as identity,
  binding text not null default 'generations',
  generation_id text not null,
  deleted_at timestamptz not null default clock_timestamp(),
  due_at timestamptz not null default clock_timestamp()
);

select public.outlast_add_column('public.outlast_deletions', 'binding', 'text not null default ''generations''');
select public.outlast_add_index(name, on_columns) from (values
  ('outlast_deletions_due', 'outlast_deletions (due_at)')
) as i (name, on_columns);
select public.outlast_protect_table('public.outlast_deletions');

-- Whether Storage has the object; false where storage.objects cannot be read.
create or replace function public.outlast_in_storage(p_bucket text, p_path text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return exists (select from storage.objects where bucket_id = p_bucket and name = p_path);
exception when undefined_table or undefined_column or invalid_schema_name or insufficient_privilege then
  return false;
end $$;

-- A worker is about to upload the object, which starts its grace time again. State `deleting`: the worker must wait.
create or replace function public.outlast_claim(p_bucket text, p_path text, p_user_id text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_state text;
begin
  insert into public.outlast_objects as o (bucket, path, user_id, kept)
    values (p_bucket, p_path, p_user_id, public.outlast_in_storage(p_bucket, p_path))
    on conflict on constraint outlast_objects_pkey do update set updated_at = clock_timestamp() where o.state = 'live'
    returning o.state into v_state;
  return jsonb_build_object('state', coalesce(v_state, 'deleting'));
end $$;

-- Trigger function: recounts the references of the objects of deleted files. The objects are locked in a separate first
-- statement, so that the count sees files which were committed while it waited for the locks.
create or replace function public.outlast_count_down() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform public.outlast_recount_variants(array_agg(g.bucket), array_agg(v.path))
    from gone g, unnest(public.outlast_variant_paths(g.variants, g.path)) v (path) where g.variants is not null;
  perform from public.outlast_objects o where (o.bucket, o.path) in (select g.bucket, g.path from gone g)
    order by o.bucket, o.path for update;
  update public.outlast_objects o set updated_at = clock_timestamp(), refs = (
      select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path
    ) where (o.bucket, o.path) in (select g.bucket, g.path from gone g);
  return null;
end $$;

select public.outlast_add_trigger('public.outlast_files', 'outlast_files_gone', 'after delete on public.outlast_files
  referencing old table as gone for each statement execute function public.outlast_count_down()');

-- Deletes the files of deleted generations, except where the generation's row exists again. Each deletion is handled
-- twice: at once, and after the grace time, because a job that was running may have stored files in between. `more`:
-- there may be more to do, so call again.
create or replace function public.outlast_release(p_grace_seconds int, p_limit int default 200) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_due bigint[];
  v_gone bigint[];  -- those of them whose generation has no row
  v_files int;
begin
  select array_agg(d.id) into v_due from (
    select id from public.outlast_deletions where due_at <= clock_timestamp()
    order by due_at, id limit p_limit for update skip locked
  ) d;
  perform public.outlast_lock_generation(g.binding, g.generation_id) from (
    select distinct binding, generation_id from public.outlast_deletions where id = any (v_due) order by 1, 2) g;
  v_gone := array(select d.id from public.outlast_deletions d where d.id = any (v_due)
                  and (public.outlast_find_generation(d.binding, d.generation_id, null)).generation_id is null);
  perform public.outlast_lock_variants_of(v_gone);
  perform from public.outlast_objects o where (o.bucket, o.path) in (
      select f.bucket, f.path from public.outlast_files f
      join public.outlast_deletions d on d.binding = f.binding and d.generation_id = f.generation_id
      where d.id = any (v_gone)
    ) order by o.bucket, o.path for update;
  delete from public.outlast_files f using public.outlast_deletions d
    where d.id = any (v_gone) and d.binding = f.binding and d.generation_id = f.generation_id;
  get diagnostics v_files = row_count;
  delete from public.outlast_written_urls w using public.outlast_deletions d
    where d.id = any (v_gone) and d.binding = w.binding and d.generation_id = w.generation_id;
  delete from public.outlast_deletions d where d.id = any (v_due) and (
    d.id <> all (v_gone)
    or d.deleted_at <= clock_timestamp() - make_interval(secs => p_grace_seconds) and not exists (
      select from public.outlast_tasks t
      where t.binding = d.binding and t.generation_id = d.generation_id
        and t.status in ('queued', 'running', 'retrying')
    ));
  update public.outlast_deletions
    set due_at = greatest(deleted_at + make_interval(secs => p_grace_seconds), clock_timestamp() + interval '10 min')
    where id = any (v_due);
  return jsonb_build_object('files', v_files, 'more', coalesce(cardinality(v_due), 0) = p_limit);
end $$;

-- The latest `updated_at` that allows removal: the grace time ago, or ten minutes ago for an object that is marked
-- `deleting`, which an interrupted removal left behind.
create or replace function public.outlast_idle_since(p_state text, p_grace_seconds int) returns timestamptz
language sql volatile security definer set search_path = '' as $$
  select clock_timestamp() - case p_state
    when 'live' then make_interval(secs => p_grace_seconds) else interval '10 min' end
$$;

-- All buckets that have had files. Reads one index entry for each.
create or replace function public.outlast_used_buckets() returns jsonb
language sql stable security definer set search_path = '' as $$
  with recursive used (bucket) as (
    (select o.bucket from public.outlast_objects o order by o.bucket limit 1)
    union all
    select (select o.bucket from public.outlast_objects o where o.bucket > u.bucket order by o.bucket limit 1)
    from used u where u.bucket is not null
  )
  select coalesce(jsonb_agg(u.bucket), '[]') from used u where u.bucket is not null
$$;

-- How many objects a removal would remove now, and their size in bytes.
create or replace function public.outlast_orphans(p_bucket text, p_grace_seconds int) returns jsonb
language sql volatile security definer set search_path = '' as $$
  select jsonb_build_object('objects', count(*), 'bytes', coalesce(sum(file_size), 0))
  from public.outlast_objects
  where bucket = p_bucket and refs = 0 and not kept and updated_at <= public.outlast_idle_since(state, p_grace_seconds)
$$;

-- Marks objects as `deleting` and returns their paths. No other caller gets them for ten minutes. References are
-- counted again while the rows are locked, so that an object with references is kept even if its stored count is wrong.
create or replace function public.outlast_take_orphans(p_bucket text, p_grace_seconds int, p_limit int default 100)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_paths text[];
  v_taken jsonb;
begin
  select array_agg(o.path) into v_paths from (
    select o.path from public.outlast_objects o
    where o.bucket = p_bucket and o.refs = 0 and not o.kept
      and o.updated_at <= public.outlast_idle_since(o.state, p_grace_seconds)
    order by o.path limit p_limit for update skip locked
  ) o;
  update public.outlast_objects o set refs = (
      select count(*) from public.outlast_files f where f.bucket = o.bucket and f.path = o.path
    ) + public.outlast_variant_refs(o.bucket, o.path) where o.bucket = p_bucket and o.path = any (v_paths);
  with taken as (
    update public.outlast_objects o set state = 'deleting', updated_at = clock_timestamp()
    where o.bucket = p_bucket and o.path = any (v_paths) and o.refs = 0 returning o.path
  )
  select coalesce(jsonb_agg(t.path order by t.path), '[]') into v_taken from taken t;
  return v_taken;
end $$;

-- Deletes the rows of objects that have been removed from Storage, so that their paths can be used again.
create or replace function public.outlast_forget_objects(p_bucket text, p_paths text[]) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_gone int;
begin
  delete from public.outlast_objects where bucket = p_bucket and path = any (p_paths) and state = 'deleting';
  get diagnostics v_gone = row_count;
  return jsonb_build_object('forgotten', v_gone);
end $$;

revoke all on function public.outlast_in_storage(text, text), public.outlast_count_down(),
  public.outlast_idle_since(text, int) from public, anon, authenticated, service_role;
revoke all on function public.outlast_claim(text, text, text), public.outlast_release(int, int),
  public.outlast_orphans(text, int), public.outlast_take_orphans(text, int, int),
  public.outlast_forget_objects(text, text[]), public.outlast_used_buckets() from public, anon, authenticated;
grant execute on function public.outlast_claim(text, text, text), public.outlast_release(int, int),
  public.outlast_orphans(text, int), public.outlast_take_orphans(text, int, int),
  public.outlast_forget_objects(text, text[]), public.outlast_used_buckets() to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000010')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
