-- Outlast 6: which rows a sweep (`outlast reconcile`) must check. Outlast 19 finds them.
--
-- The sweep leaves rows from before the installation alone; `outlast adopt` takes them. A row is young when its creation
-- time is not before the installation. The trigger notes a row that is completed after the installation although it is
-- not young: an update completes it, or its age is unknown, because it has no creation time or an impossible one. The
-- sweep takes young and noted rows.

select public.outlast_start_change();

-- The part of the sweep's condition that does not name the status; null without an output column. The index of
-- outlast_install has this text as its predicate, and the planner uses it only while both are the same.
create or replace function public.outlast_unsettled_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_generations();
  if g.output_name is null then
    return null;
  end if;
  return format('%I is not null', g.output_name) || case when exists (
      select from pg_attribute where attrelid = g.rel and attname = 'media_status' and not attisdropped
    ) then $sql$ and (media_status in ('completed', 'partial', 'failed')) is not true$sql$ else '' end;
end $$;

-- The SQL condition for rows of the generations table that the sweep must check: completed, with an output, and without
-- a final media_status, which would mean that every file is accounted for. Null when a required column is missing. The
-- status column is cast to text only when it cannot be compared with the completed value otherwise, so that the planner
-- can compare it in the index.
create or replace function public.outlast_unheard_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_done text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    return null;
  end if;
  v_done := format('%I = %L', g.status_name, g.completed);
  begin
    execute format('select from %s where %s limit 0', g.rel, v_done);
  exception when others then  -- the completed value cannot be cast to the column's type
    v_done := format('%I::text = %L', g.status_name, g.completed);
  end;
  return format('%s and %s', v_done, public.outlast_unsettled_where());
end $$;

-- Whether the column with the creation time has a type of date and time.
create or replace function public.outlast_created_is_time() returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return exists (
    select from public.outlast_generations() g join pg_attribute a on a.attrelid = g.rel and a.attname = g.created_name
    where a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype));
end $$;

-- When the table was bound. An installation by a version that did not record it took rows of every age: -infinity.
create or replace function public.outlast_installed_at() returns timestamptz
language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce((select value::timestamptz from public.outlast_settings where key = 'installed_at'), '-infinity');
end $$;

-- Records this moment as the installation's, if the table has neither Outlast's triggers nor its column `media`.
create or replace function public.outlast_note_installation(p_table regclass) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from pg_trigger where tgrelid = p_table and tgfoid = 'public.outlast_notify'::regproc)
    and not exists (select from pg_attribute where attrelid = p_table and not attisdropped
      and col_description(attrelid, attnum) like 'Outlast: %') then
    insert into public.outlast_settings (key, value) values ('installed_at', clock_timestamp()::text)
      on conflict (key) do update set value = excluded.value;
    delete from public.outlast_late_rows;
  end if;
end $$;

-- Called by the trigger for a row that becomes completed, by an update or (not `p_updated`) by its insert: notes it
-- unless it is young, or was inserted with a time from before the installation, as an import of old rows is. `p_created`
-- is null for an unknown age. An error must not fail the statement, and must not stop the webhook.
create or replace function public.outlast_note_late_row(p_id text, p_created text, p_updated boolean) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_installed timestamptz := public.outlast_installed_at();
begin
  if (p_created::timestamptz >= v_installed) is not true and v_installed > '-infinity' and length(p_id) <= 256
    and (p_updated or (p_created::timestamptz > '0001-01-02') is not true)
  then
    insert into public.outlast_late_rows (generation_id) values (p_id) on conflict (generation_id) do nothing;
  end if;
exception when others then
  raise warning 'outlast: the sweep will not find this generation: % (SQLSTATE %)', sqlerrm, sqlstate;
end $$;

-- Removes the notes of rows that need no sweep any more, and those older than 30 days.
create or replace function public.outlast_forget_late_rows() returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_where text := public.outlast_unheard_where();
begin
  delete from public.outlast_late_rows where noted_at < now() - interval '30 days';
  select * into g from public.outlast_generations();
  if v_where is not null and exists (select from public.outlast_late_rows) then
    execute format('delete from public.outlast_late_rows l where not exists (select from %s g where g.%I::text ='
      ' l.generation_id and %s)', g.rel, g.id_name, v_where);
  end if;
end $$;

-- The SQL condition for rows (alias `g`) with a creation time: young ones or, with `p_past`, older ones, created within
-- the given time. Null if there are none. If the creation time is of another type, the age of every row is unknown:
-- none is young, and all are old.
create or replace function public.outlast_age_where(p_past boolean, p_since timestamptz, p_until timestamptz)
returns text language plpgsql stable security definer set search_path = '' as $$
declare
  v_installed timestamptz := public.outlast_installed_at();
  v_created text := (select format('g.%I', g.created_name) from public.outlast_generations() g);
  v_where text := v_created || ' is not null';
begin
  if not public.outlast_created_is_time() then
    return case when p_past = (v_installed > '-infinity') and not (p_past and num_nonnulls(p_since, p_until) > 0)
      then v_where end;
  end if;
  p_since := case when p_past then p_since else greatest(p_since, v_installed) end;
  if p_past then
    v_where := v_where || format(' and %s < %L::timestamptz', v_created, v_installed);
  end if;
  if p_since > '-infinity' then
    v_where := v_where || format(' and %s >= %L::timestamptz', v_created, p_since);
  end if;
  if p_until is not null then
    v_where := v_where || format(' and (%1$s <= %2$L::timestamptz or %1$s > now() + interval ''1 day'')', v_created,
      p_until);
  end if;
  return v_where;
end $$;

-- Whether rows without a creation time are among the young (`p_past` false) or the old ones.
create or replace function public.outlast_undated_included(p_past boolean, p_since timestamptz, p_until timestamptz)
returns boolean language plpgsql stable security definer set search_path = '' as $$
begin
  return p_since is null and p_past = (public.outlast_installed_at() > '-infinity')
    and not (p_past and p_until is not null);
end $$;

-- The SQL condition for noted rows (alias `g`) that are not young and whose id is after `p_after`. It uses the index of the id column, and
-- a noted id that the column's type cannot hold any more is ignored.
create or replace function public.outlast_late_where(p_after text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_generations();
  if public.outlast_installed_at() = '-infinity' then
    return null;  -- all rows are young
  end if;
  return format('g.%I%s in (select %s from public.outlast_late_rows l where l.generation_id > %L collate "C")%s',
    g.id_name, case when g.id_type in ('uuid', 'bigint', 'integer') then '' else '::text' end,
    case when g.id_type = 'uuid' then 'public.outlast_uuid(l.generation_id)'
      when g.id_type in ('bigint', 'integer')
        then 'case when l.generation_id ~ ''^-?[0-9]{1,18}$'' then l.generation_id::bigint end'
      else 'l.generation_id' end, p_after, case when public.outlast_created_is_time()
      then format(' and (g.%I >= %L::timestamptz) is not true', g.created_name, public.outlast_installed_at())
      else '' end);
end $$;

revoke all on function public.outlast_unheard_where(), public.outlast_unsettled_where(),
  public.outlast_created_is_time(), public.outlast_installed_at(), public.outlast_note_installation(regclass),
  public.outlast_note_late_row(text, text, boolean), public.outlast_forget_late_rows(),
  public.outlast_age_where(boolean, timestamptz, timestamptz),
  public.outlast_undated_included(boolean, timestamptz, timestamptz), public.outlast_late_where(text)
  from public, anon, authenticated, service_role;
